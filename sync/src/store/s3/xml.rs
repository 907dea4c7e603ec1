//! Reading the few XML documents a store answers with. Element names count, namespaces do not: stores differ in them.

use roxmltree::{Document, Node};

/// The texts of every element `name`, in order; nothing if this is not XML.
pub(super) fn texts(document: &str, name: &str) -> Vec<String> {
    read(document, |root| {
        let found = root.descendants().filter(|n| n.tag_name().name() == name);
        found
            .map(|n| n.text().unwrap_or_default().to_owned())
            .collect()
    })
    .unwrap_or_default()
}

/// The text of the first element `name`.
pub(super) fn text(document: &str, name: &str) -> Option<String> {
    texts(document, name).into_iter().next()
}

/// The name of the outermost element; `None` if this is not XML.
pub(super) fn kind(document: &str) -> Option<String> {
    read(document, |root| root.tag_name().name().to_owned())
}

/// A list's entries: the texts of `inner` right in each `outer`.
pub(super) fn texts_in(document: &str, outer: &str, inner: &str) -> Vec<String> {
    read(document, |root| {
        let outers = root.descendants().filter(|n| n.tag_name().name() == outer);
        let found = outers.filter_map(|n| n.children().find(|c| c.tag_name().name() == inner));
        found
            .map(|n| n.text().unwrap_or_default().to_owned())
            .collect()
    })
    .unwrap_or_default()
}

/// A store that works for long sends spaces in front, to keep the connection.
fn read<T>(document: &str, look: impl FnOnce(Node<'_, '_>) -> T) -> Option<T> {
    let parsed = Document::parse(document.trim()).ok()?;
    Some(look(parsed.root_element()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_with_and_without_a_namespace_and_unescaped() {
        let list = r#" <?xml version="1.0"?><L xmlns="http://x/"><Contents><Key>a&amp;b</Key></Contents><Contents><Key>c</Key></Contents><Prefix><Key>d</Key></Prefix></L>"#;
        assert_eq!(texts_in(list, "Contents", "Key"), ["a&b", "c"]);
        assert_eq!(texts(list, "Key").len(), 3);
        assert_eq!(kind(list).as_deref(), Some("L"));
        let error = "<Error><Code>NoSuchKey</Code><Message/></Error>";
        assert_eq!(text(error, "Code").as_deref(), Some("NoSuchKey"));
        assert_eq!(text(error, "Message").as_deref(), Some(""));
    }

    #[test]
    fn what_is_no_xml_has_no_texts() {
        for text_of in ["", "<html><body>", "not found"] {
            assert_eq!((text(text_of, "Code"), kind(text_of)), (None, None));
        }
    }
}
