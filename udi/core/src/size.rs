//! Amounts of storage: `200G`.

use std::fmt;
use std::str::FromStr;

/// A number of bytes, more than none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// Each 1024 times the one before.
const UNITS: &[u8] = b"KMGTPE";

impl Size {
    /// The number of bytes; none counts as one.
    pub fn from_bytes(bytes: u64) -> Self {
        Self(bytes.max(1))
    }

    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    /// A whole number and a unit of 1024: `K`, `M`, `G`, `T`, `P`, `E`, with or without `iB` or
    /// `B` after it, small or capital. Without a unit it is bytes.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is not a size like 200G");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let unit = unit.to_ascii_uppercase();
        let unit = unit.strip_suffix("IB").or(unit.strip_suffix('B')).unwrap_or(&unit);
        let power = match unit.as_bytes() {
            [] => 0,
            [one] => 1 + UNITS.iter().position(|u| u == one).ok_or_else(refuse)?,
            _ => return Err(refuse()),
        };
        let factor = 1u64 << (10 * power);
        number.checked_mul(factor).filter(|bytes| *bytes > 0).map(Self).ok_or_else(refuse)
    }
}

impl fmt::Display for Size {
    /// In the largest unit of which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let power = (self.0.trailing_zeros() / 10).min(UNITS.len() as u32);
        write!(f, "{}", self.0 >> (10 * power))?;
        match power.checked_sub(1).and_then(|at| UNITS.get(at as usize)) {
            Some(unit) => write!(f, "{}", char::from(*unit)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<'de> serde::Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_of_1024_however_they_are_written() {
        for same in ["2G", "2g", "2GB", "2GiB", "2048M", "2147483648"] {
            assert_eq!(same.parse::<Size>().unwrap(), Size::from_bytes(2 << 30), "{same}");
        }
        for bad in ["", "G", "0", "0G", "-1G", "1.5G", "1GG", "1X", "1 G", "16E", "1iB2", "½G"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_prints_parses_to_the_same(bytes in 1u64.., power in 0u32..60) {
            for size in [Size::from_bytes(bytes), Size::from_bytes(1 << power)] {
                prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
            }
        }

        #[test]
        fn no_text_is_a_crash(text in "\\PC{0,20}") {
            let _ = text.parse::<Size>();
        }
    }
}
