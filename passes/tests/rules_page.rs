//! The page of rules lists all of them as they are. `BLESS=1 cargo test` writes it.

use gigac_passes::fuse::catalogue;

#[test]
fn rules_are_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/passes/fuse-rules.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let mark = "<!-- rules -->\n";
    let (head, rows) = page.split_once(mark).expect("the page has a place for the rules");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, format!("{head}{mark}{}", catalogue())).expect("a writable page");
    } else {
        assert!(rows == catalogue(), "write the page again: BLESS=1 cargo test rules_page");
    }
}
