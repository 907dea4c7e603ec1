//! One field of an expression: which numbers it allows, and the few words that depend on the month.

use super::error::{Error, Part};

/// A field, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// What it is made of, in the order written.
    pub items: Vec<Item>,
    /// The numbers it allows, a bit each.
    pub bits: u64,
    /// Whether it begins with `*`: Vixie's "not set" of days, and his "interval" of hours and minutes.
    pub star: bool,
}

/// One element of a field's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// `*`, with a step or 1.
    All(u8),
    /// One number.
    One(u8),
    /// A range, both ends in it, with a step or 1.
    Range(u8, u8, u8),
    /// `L` and `L-3`: that many days before the month's last.
    Last(u8),
    /// `LW`: the month's last day from Monday to Friday.
    LastWorkday,
    /// `15W`: the day from Monday to Friday nearest to that day, within its month.
    Workday(u8),
    /// `5#2`: the second Friday.
    Nth(u8, u8),
    /// `5L`: the last Friday.
    LastOf(u8),
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Part {
    /// The smallest and the largest number.
    pub fn bounds(self) -> (u8, u8) {
        match self {
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 7),
            _ => (0, 59),
        }
    }

    /// The largest number `*` counts to: 7 is Sunday once more.
    fn most(self) -> u8 {
        if self == Self::Weekday {
            6
        } else {
            self.bounds().1
        }
    }

    fn name(self, word: &str) -> Option<u8> {
        let (names, first): (&[&str], u8) = match self {
            Self::Month => (&MONTHS, 1),
            Self::Weekday => (&WEEKDAYS, 0),
            _ => return None,
        };
        let found = names.iter().position(|name| *name == word)?;
        u8::try_from(found).ok().map(|n| n + first)
    }
}

impl Field {
    /// Reads a field, in capitals.
    pub fn parse(part: Part, text: &str) -> Result<Self, Error> {
        let reader = Reader { part, text };
        let items = text.split(',').map(|item| reader.item(item));
        let items = items.collect::<Result<Vec<Item>, Error>>()?;
        Ok(Self {
            bits: items.iter().fold(0, |bits, item| bits | item.bits(part)),
            star: text.starts_with('*'),
            items,
        })
    }

    /// The smallest number allowed that is not below `from`.
    pub fn from(&self, from: i8) -> Option<i8> {
        let rest = self.bits & u64::MAX.checked_shl(u32::try_from(from).ok()?)?;
        (rest != 0).then(|| i8::try_from(rest.trailing_zeros()).ok())?
    }

    /// Whether the number is allowed.
    pub fn has(&self, number: i8) -> bool {
        self.from(number) == Some(number)
    }
}

impl Item {
    /// The numbers it allows, a bit each; none for the words.
    pub fn bits(self, part: Part) -> u64 {
        let (low, high, step) = match self {
            Self::All(step) => (part.bounds().0, part.most(), step),
            Self::One(number) => (number, number, 1),
            Self::Range(low, high, step) => (low, high, step),
            _ => return 0,
        };
        let numbers = (low..=high).step_by(step.into());
        numbers.fold(0, |bits, number| {
            let sunday = part == Part::Weekday && number == 7;
            bits | 1 << if sunday { 0 } else { number }
        })
    }
}

struct Reader<'a> {
    part: Part,
    text: &'a str,
}

impl Reader<'_> {
    fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::new(self.part, self.text, reason)
    }

    fn item(&self, item: &str) -> Result<Item, Error> {
        if let Some(special) = self.special(item)? {
            return Ok(special);
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (item, None),
        };
        if range == "*" {
            return Ok(Item::All(step.unwrap_or(1)));
        }
        match (range.split_once('-'), step) {
            (Some((low, high)), _) => self.range(low, high, step.unwrap_or(1)),
            (None, Some(step)) => Ok(Item::Range(self.number(range)?, self.part.most(), step)),
            (None, None) => Ok(Item::One(self.number(range)?)),
        }
    }

    fn range(&self, low: &str, high: &str, step: u8) -> Result<Item, Error> {
        let (from, mut to) = (self.number(low)?, self.number(high)?);
        if self.part == Part::Weekday && high == "SUN" && from > 0 {
            to = 7;
        }
        if from > to {
            return Err(self.refuse(format!(
                "the range {low}-{high} ends before it begins: write two, as in 5-6,0-1"
            )));
        }
        Ok(Item::Range(from, to, step))
    }

    fn step(&self, text: &str) -> Result<u8, Error> {
        match digits(text) {
            Some(0) => Err(self.refuse("a step of 0 never comes forward: give 1 or more")),
            Some(step) => Ok(u8::try_from(step).unwrap_or(u8::MAX)),
            None => Err(self.refuse(format!("the step `{text}` is not a number"))),
        }
    }

    fn number(&self, text: &str) -> Result<u8, Error> {
        let (least, most) = self.part.bounds();
        if let Some(number) = self.part.name(text) {
            return Ok(number);
        }
        let number = digits(text).ok_or_else(|| self.refuse(self.unreadable(text)))?;
        match u8::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(self.refuse(format!("{text} is not in {least}-{most}"))),
        }
    }

    fn unreadable(&self, text: &str) -> String {
        match (self.part, text) {
            (_, "") => "a number is missing".to_owned(),
            (Part::Weekday, "L") => "L needs the day it is the last of, as in 5L".to_owned(),
            (Part::Month, _) => format!("`{text}` is neither 1-12 nor JAN-DEC"),
            (Part::Weekday, _) => format!("`{text}` is neither 0-7 nor SUN-SAT"),
            _ => format!("`{text}` is not a number"),
        }
    }

    fn special(&self, item: &str) -> Result<Option<Item>, Error> {
        match self.part {
            Part::Day => self.special_day(item),
            Part::Weekday => self.special_weekday(item),
            _ => Ok(None),
        }
    }

    fn special_day(&self, item: &str) -> Result<Option<Item>, Error> {
        if item == "L" {
            return Ok(Some(Item::Last(0)));
        }
        if item == "LW" {
            return Ok(Some(Item::LastWorkday));
        }
        if let Some(back) = item.strip_prefix("L-") {
            return match digits(back).and_then(|back| u8::try_from(back).ok()) {
                Some(back @ 1..=30) => Ok(Some(Item::Last(back))),
                _ => Err(self.refuse("L- is followed by 1-30, the days before the last")),
            };
        }
        let Some(day) = item.strip_suffix('W') else {
            return Ok(None);
        };
        Ok(Some(Item::Workday(self.number(day)?)))
    }

    fn special_weekday(&self, item: &str) -> Result<Option<Item>, Error> {
        if let Some((day, nth)) = item.split_once('#') {
            return match digits(nth) {
                Some(nth @ 1..=5) => {
                    let nth = u8::try_from(nth).unwrap_or(5);
                    Ok(Some(Item::Nth(self.number(day)? % 7, nth)))
                }
                _ => Err(self.refuse("# is followed by 1-5, which one of the month")),
            };
        }
        match item.strip_suffix('L') {
            None | Some("") => Ok(None),
            Some(day) => Ok(Some(Item::LastOf(self.number(day)? % 7))),
        }
    }
}

/// A number of digits only, capped: `+5` and `0x5` are none.
fn digits(text: &str) -> Option<u32> {
    let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all.then(|| text.parse().unwrap_or(u32::MAX))
}
