//! The page's style and script: gzipped when the program is built, and under an address that changes with them.

use miniz_oxide::inflate::decompress_to_vec_with_limit;

/// More than either has.
const LONGEST: usize = 64 * 1024;
/// Of the gzip format before the packed content (RFC 1952), without names.
const GZIP_HEAD: usize = 10;

/// A file that belongs to the page.
pub struct Asset {
    /// Names the content; what an address without it leads to may change.
    pub digest: &'static str,
    pub content_type: &'static str,
    pub gzipped: &'static [u8],
}

/// `/portal.css`
pub static STYLE: Asset = Asset {
    digest: env!("PORTAL_CSS_DIGEST"),
    content_type: "text/css; charset=utf-8",
    gzipped: include_bytes!(concat!(env!("OUT_DIR"), "/portal.css.gz")),
};

/// `/portal.js`
pub static SCRIPT: Asset = Asset {
    digest: env!("PORTAL_JS_DIGEST"),
    content_type: "text/javascript; charset=utf-8",
    gzipped: include_bytes!(concat!(env!("OUT_DIR"), "/portal.js.gz")),
};

pub(super) const STYLE_ADDRESS: &str = concat!("/portal.css?", env!("PORTAL_CSS_DIGEST"));
pub(super) const SCRIPT_ADDRESS: &str = concat!("/portal.js?", env!("PORTAL_JS_DIGEST"));

impl Asset {
    /// For what does not take it gzipped. A test holds that it is never `None`.
    pub fn unpacked(&self) -> Option<Vec<u8>> {
        decompress_to_vec_with_limit(self.gzipped.get(GZIP_HEAD..)?, LONGEST).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_the_file_in_a_fraction_of_its_size() {
        for (asset, file) in
            [(&STYLE, &include_bytes!("portal.css")[..]), (&SCRIPT, &include_bytes!("portal.js")[..])]
        {
            assert_eq!(asset.unpacked().unwrap(), file);
            assert!(asset.gzipped.len() * 2 < file.len(), "{}", asset.gzipped.len());
            assert_eq!(asset.gzipped[asset.gzipped.len() - 4..], (file.len() as u32).to_le_bytes());
        }
    }

    #[test]
    fn the_addresses_name_the_content() {
        assert_eq!(STYLE_ADDRESS, format!("/portal.css?{}", STYLE.digest));
        assert_eq!(SCRIPT_ADDRESS, format!("/portal.js?{}", SCRIPT.digest));
        assert!(STYLE.digest.len() == 8 && STYLE.digest != SCRIPT.digest);
    }
}
