//! Names of classes: said in the description, written in the file by its exporter, or known by their number.

/// The 80 classes of COCO 2017 in the order of nearly all detectors.
const COCO: &str = "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,\
parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,\
frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,\
wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,\
potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,\
refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush";

/// Names for `classes` classes of which nothing is said.
pub(crate) fn guess(classes: usize, is_face: bool) -> Vec<String> {
    if is_face && classes == 1 {
        return vec!["face".to_owned()];
    }
    let coco: Vec<_> = COCO.split(',').map(str::to_owned).collect();
    if coco.len() == classes {
        return coco;
    }
    (0..classes).map(|class| format!("class {class}")).collect()
}

/// What Ultralytics writes into a file's metadata as `names`: a Python dict, `{0: 'person', 1: "driver's hat"}`.
/// `None`: it is none, or its numbers do not count from 0.
pub(crate) fn parse(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim().strip_prefix('{')?;
    let mut names = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        if rest.starts_with('}') {
            return (!names.is_empty()).then_some(names);
        }
        let (number, after) = rest.split_once(':')?;
        if number.trim().parse() != Ok(names.len()) {
            return None;
        }
        let after = after.trim_start();
        let quote = after.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let (name, length) = quoted(after, quote)?;
        names.push(name);
        rest = after.get(length..)?;
    }
}

/// The text between quotes, and how many bytes it takes with them.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => name.push(characters.next()?.1),
            _ if character == quote => return Some((name, at + character.len_utf8())),
            _ => name.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_metadata() {
        for (text, expected) in [
            ("{0: 'person', 1: 'car'}", Some(&["person", "car"][..])),
            (r#"{0: "driver's hat", 1: 'a, b: c}'}"#, Some(&["driver's hat", "a, b: c}"])),
            (r"{0: 'it\'s'}", Some(&["it's"])),
            ("{0: '人'}", Some(&["人"])),
            ("{1: 'person'}", None),
            ("{0: person}", None),
            ("{0: 'person", None),
            ("{0: 'person'", None),
            ("{}", None),
            ("['person']", None),
            ("", None),
        ] {
            let expected = expected.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn names_by_number() {
        assert_eq!(guess(80, false)[79], "toothbrush");
        assert_eq!(guess(1, true), ["face"]);
        assert_eq!(guess(2, true), ["class 0", "class 1"]);
    }
}
