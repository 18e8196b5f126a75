//! The page at `/`, embedded in the binary. Plain files without a build step: browsers run them as
//! they are. Nothing is inline and nothing comes from another host, so a `Content-Security-Policy`
//! of `default-src 'self'` holds.

/// One file of the page.
#[derive(Debug)]
pub struct Asset {
    /// Request path that it answers.
    pub path: &'static str,
    /// Value of its `Content-Type` header.
    pub content_type: &'static str,
    /// The contents.
    pub body: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

static ASSETS: &[Asset] = &[
    Asset { path: "/", content_type: HTML, body: include_bytes!("index.html") },
    Asset { path: "/style.css", content_type: CSS, body: include_bytes!("style.css") },
    Asset { path: "/favicon.svg", content_type: SVG, body: include_bytes!("favicon.svg") },
    Asset { path: "/app.js", content_type: JAVASCRIPT, body: include_bytes!("app.js") },
    Asset { path: "/basics.js", content_type: JAVASCRIPT, body: include_bytes!("basics.js") },
    Asset {
        path: "/order-list.js",
        content_type: JAVASCRIPT,
        body: include_bytes!("order-list.js"),
    },
    Asset { path: "/price-hub.js", content_type: JAVASCRIPT, body: include_bytes!("price-hub.js") },
    Asset {
        path: "/price-link.js",
        content_type: JAVASCRIPT,
        body: include_bytes!("price-link.js"),
    },
    Asset {
        path: "/price-worker.js",
        content_type: JAVASCRIPT,
        body: include_bytes!("price-worker.js"),
    },
    Asset { path: "/search.js", content_type: JAVASCRIPT, body: include_bytes!("search.js") },
    Asset { path: "/ticket.js", content_type: JAVASCRIPT, body: include_bytes!("ticket.js") },
    Asset { path: "/watchlist.js", content_type: JAVASCRIPT, body: include_bytes!("watchlist.js") },
];

/// The file for a `GET` of `path` (without its query); `None` for any other path.
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(asset: &Asset) -> &'static str {
        std::str::from_utf8(asset.body).unwrap()
    }

    /// The quoted strings that follow `before` in `text`.
    fn quoted_after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        text.split(before).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn each_path_serves_its_file() {
        assert_eq!(asset("/").map(|page| page.content_type), Some(HTML));
        assert!(asset("/").is_some_and(|page| text(page).starts_with("<!doctype html>")));
        assert!(asset("/style.css").is_some_and(|style| text(style).contains(":root")));
        assert!(asset("/index.html").is_none(), "the page has one path");
        assert!(asset("").is_none());
        assert!(asset("/mod.rs").is_none());
    }

    #[test]
    fn the_page_refers_only_to_served_files() {
        let page = text(asset("/").unwrap());
        let named: Vec<&str> =
            quoted_after(page, "href=\"").chain(quoted_after(page, "src=\"")).collect();
        assert!(named.contains(&"/app.js"));
        for path in named {
            assert!(asset(path).is_some(), "{path}");
        }
        for script in ASSETS.iter().filter(|asset| asset.content_type == JAVASCRIPT) {
            let imports = text(script).lines().filter(|line| line.starts_with("import "));
            let imported = imports.flat_map(|line| quoted_after(line, "\"./"));
            for path in imported.chain(quoted_after(text(script), "SharedWorker(\"/")) {
                assert!(asset(&format!("/{path}")).is_some(), "{path} in {}", script.path);
            }
        }
    }

    #[test]
    fn a_strict_content_security_policy_holds() {
        let page = text(asset("/").unwrap());
        assert!(!page.contains("style=") && !page.contains("<style"), "no inline style");
        assert!(!page.contains("javascript:"), "no javascript: URLs");
        let is_handler = |rest: &str| {
            rest.trim_start_matches(|letter: char| letter.is_ascii_lowercase()).starts_with('=')
        };
        assert!(!page.split(" on").skip(1).any(is_handler), "no inline handler");
        assert_eq!(page.matches("<script").count(), page.matches("src=\"/app.js\"").count());
        for script in ASSETS.iter().filter(|asset| asset.content_type == JAVASCRIPT) {
            let text = text(script);
            assert!(!text.contains("innerHTML") && !text.contains("eval("), "{}", script.path);
            assert!(!text.contains("http:") && !text.contains("https:"), "{}", script.path);
        }
    }
}
