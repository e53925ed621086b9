//! Names of devices: `nvidia.com/gpu=all`.

use std::fmt;

/// `VENDOR/CLASS=DEVICE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName {
    kind: String,
    device: String,
}

impl DeviceName {
    /// Why `text` is no name of a device.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text}: not VENDOR/CLASS=DEVICE, as in nvidia.com/gpu=all");
        let (kind, device) = text.split_once('=').ok_or_else(refuse)?;
        let (vendor, class) = kind.split_once('/').ok_or_else(refuse)?;
        if !(word(vendor, b"-.") && word(class, b"-_.") && word(device, b"-_.:")) {
            return Err(refuse());
        }
        Ok(Self { kind: kind.to_owned(), device: device.to_owned() })
    }

    /// What a spec calls its `kind`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Which of that kind.
    pub fn device(&self) -> &str {
        &self.device
    }
}

/// Letters and digits, and between them what `more` has.
fn word(text: &str, more: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
        && bytes.iter().all(|byte| plain(byte) || more.contains(byte))
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

impl<'de> serde::Deserialize<'de> for DeviceName {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}
