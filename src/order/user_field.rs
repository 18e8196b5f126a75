//! Serializes a user id as text in records; validates it again when read.

use rkyv::rancor::{Fallible, Source};
use rkyv::ser::Writer;
use rkyv::string::{ArchivedString, StringResolver};
use rkyv::with::{ArchiveWith, DeserializeWith, SerializeWith};
use rkyv::{Place, SerializeUnsized};

use crate::types::UserId;

/// rkyv adapter for a [`UserId`] field.
#[derive(Debug)]
pub struct AsText;

impl ArchiveWith<UserId> for AsText {
    type Archived = ArchivedString;
    type Resolver = StringResolver;

    fn resolve_with(user: &UserId, resolver: StringResolver, out: Place<ArchivedString>) {
        ArchivedString::resolve_from_str(user.as_str(), resolver, out);
    }
}

impl<S> SerializeWith<UserId, S> for AsText
where
    S: Fallible + Writer + ?Sized,
    S::Error: Source,
    str: SerializeUnsized<S>,
{
    fn serialize_with(user: &UserId, serializer: &mut S) -> Result<StringResolver, S::Error> {
        ArchivedString::serialize_from_str(user.as_str(), serializer)
    }
}

impl<D> DeserializeWith<ArchivedString, UserId, D> for AsText
where
    D: Fallible + ?Sized,
    D::Error: Source,
{
    fn deserialize_with(user: &ArchivedString, _: &mut D) -> Result<UserId, D::Error> {
        UserId::new(user.as_str()).map_err(Source::new)
    }
}
