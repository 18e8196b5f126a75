use super::Lsn;
use super::record::RecordHeader;

/// A record of the log.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    pub lsn: Lsn,
    pub partition: u8,
    /// Kind of the payload.
    pub kind: u8,
    /// Format version of the payload.
    pub format_version: u8,
    /// The start of the program that wrote it.
    pub epoch: u32,
    /// The appended bytes, 16-byte aligned in memory.
    pub payload: &'a [u8],
}

/// A record with this header and payload.
pub(super) fn view<'a>(header: &RecordHeader, payload: &'a [u8]) -> RecordView<'a> {
    RecordView {
        lsn: Lsn(header.lsn),
        partition: header.partition,
        kind: header.kind,
        format_version: header.format_version,
        epoch: header.epoch,
        payload,
    }
}
