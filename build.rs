//! Makes of the portal's style and script what the program stores: gzipped (RFC 1952), with a digest that names the
//! content.

use std::path::Path;
use std::{env, fs};

fn main() {
    let out = env::var("OUT_DIR").expect("cargo names a folder");
    for file in ["portal.css", "portal.js"] {
        let path = format!("src/portal/{file}");
        println!("cargo:rerun-if-changed={path}");
        let content = fs::read(&path).expect("the file is there");
        let digest = crc32(&content);
        let gzipped = gzip(&content, digest);
        fs::write(Path::new(&out).join(format!("{file}.gz")), gzipped).expect("the folder takes files");
        let name = file.to_uppercase().replace('.', "_");
        println!("cargo:rustc-env={name}_DIGEST={digest:08x}");
    }
}

fn gzip(content: &[u8], crc: u32) -> Vec<u8> {
    const DEFLATE_WITHOUT_NAME_OR_TIME: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    let mut gzipped = DEFLATE_WITHOUT_NAME_OR_TIME.to_vec();
    gzipped.extend(miniz_oxide::deflate::compress_to_vec(content, 10));
    gzipped.extend(crc.to_le_bytes());
    gzipped.extend(u32::try_from(content.len()).expect("it is small").to_le_bytes());
    gzipped
}

fn crc32(content: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !content.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
