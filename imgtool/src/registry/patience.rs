//! When to ask a registry again, and when to give up.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// Tries of one request that fails for reasons that pass.
pub(super) const TRIES: u32 = 5;
/// Waits of one pull, for whatever reason.
const WAITS: u32 = 30;
/// Who is asked to come back later than this comes back by hand.
const LONGEST: Duration = Duration::from_secs(120);
/// Numbers from here on are times since 1970, not seconds from now.
const EPOCH: u64 = 1_000_000_000;

/// What a registry that refuses says of when it will not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// How long to wait.
    wait: Option<Duration>,
    /// How many requests it takes in how long; only if none is left.
    limit: Option<(u64, Duration)>,
}

impl Asked {
    /// Reads what registries and the proxies before them send; `header` gives one by its name in
    /// lower case.
    pub(super) fn of<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Self {
        let date = |text: &str| {
            let time = httpdate::parse_http_date(text).ok()?;
            time.duration_since(UNIX_EPOCH).ok()
        };
        // By the registry's own clock, if it shows it.
        let now = || {
            header("date").and_then(date).or_else(|| UNIX_EPOCH.elapsed().ok()).unwrap_or_default()
        };
        let seconds = |text: &str| match text.trim().parse::<u64>().ok()? {
            time if time >= EPOCH => Some(Duration::from_secs(time).saturating_sub(now())),
            seconds => Some(Duration::from_secs(seconds)),
        };
        let later = |text: &str| {
            seconds(text).or_else(|| date(text.trim()).map(|time| time.saturating_sub(now())))
        };
        // `100;w=21600`: so many in so many seconds.
        let counted = |name: &str| {
            let (count, rest) = header(name)?.split_once(';')?;
            let window = rest.split(';').find_map(|part| part.trim().strip_prefix("w="))?;
            Some((count.trim().parse::<u64>().ok()?, Duration::from_secs(window.parse().ok()?)))
        };
        let empty = counted("ratelimit-remaining").is_some_and(|(left, _)| left == 0);
        Self {
            wait: header("retry-after")
                .and_then(later)
                .or_else(|| header("x-retry-after").and_then(later))
                .or_else(|| header("ratelimit-reset").and_then(seconds))
                .or_else(|| header("x-ratelimit-reset").and_then(seconds)),
            limit: if empty { counted("ratelimit-limit") } else { None },
        }
    }

    /// How long to wait after `tries` tries; nothing if it would be too long.
    fn wait(self, tries: u32) -> Option<Duration> {
        match (self.wait, self.limit) {
            (Some(wait), _) => (wait <= LONGEST).then_some(wait),
            // It counts in hours, and does not say when the next one ends.
            (None, Some((_, window))) if window > LONGEST => None,
            // Half a second, one, two, four.
            _ => Some(Duration::from_millis(250 << tries.min(6))),
        }
    }

    /// For people: when it will do it again.
    pub(super) fn words(self) -> String {
        match (self.wait, self.limit) {
            (Some(wait), _) if wait > LONGEST => format!("; it asks to wait {}", span(wait)),
            (_, Some((count, window))) => format!("; it takes {count} in {}", span(window)),
            _ => String::new(),
        }
    }
}

/// What is left of it, for one pull.
#[derive(Debug)]
pub(super) struct Patience(AtomicU32);

impl Default for Patience {
    fn default() -> Self {
        Self(AtomicU32::new(WAITS))
    }
}

impl Patience {
    /// Waits before the next try, after `tries` of them; or says that there is none. `say` is
    /// told how long.
    pub(super) fn wait(&self, tries: u32, asked: Asked, say: impl FnOnce(&str)) -> bool {
        let Some(wait) = asked.wait(tries).filter(|_| tries < TRIES) else { return false };
        let spend = |left: u32| left.checked_sub(1);
        if self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_err() {
            return false;
        }
        say(&format!("trying again in {} (try {} of {TRIES})", span(wait), tries + 1));
        std::thread::sleep(wait);
        true
    }
}

/// A time for people, rounded up.
fn span(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    match seconds {
        _ if time < Duration::from_secs(1) && !time.is_zero() => format!("{} ms", time.as_millis()),
        0..=120 => format!("{seconds} s"),
        121..=7200 => format!("{} min", seconds.div_ceil(60)),
        7201..=172_800 => format!("{} h", seconds.div_ceil(3600)),
        _ => format!("{} days", seconds.div_ceil(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(headers: &[(&str, &'static str)]) -> Asked {
        Asked::of(|name| headers.iter().find(|(n, _)| *n == name).map(|(_, value)| *value))
    }

    fn seconds(headers: &[(&str, &'static str)]) -> Option<u64> {
        asked(headers).wait.map(|wait| wait.as_secs())
    }

    #[test]
    fn registries_say_in_many_ways_how_long_to_wait() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:07 GMT");
        assert_eq!(seconds(&[("retry-after", "30")]), Some(30));
        assert_eq!(seconds(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), date]), Some(30));
        assert_eq!(seconds(&[("retry-after", "Sun, 06 Nov 1994 08:48:37 GMT"), date]), Some(0));
        // The Docker Hub's, since 1970; GitHub's.
        let date = ("date", "Thu, 16 Nov 2023 00:00:00 GMT");
        assert_eq!(seconds(&[("x-retry-after", "1700092860"), date]), Some(60));
        assert_eq!(seconds(&[("x-ratelimit-reset", "1700096400"), date]), Some(3600));
        assert_eq!(seconds(&[("ratelimit-reset", "20")]), Some(20));
        for none in ["", "soon", "-1", "1e3", "99999999999999999999"] {
            assert_eq!(seconds(&[("retry-after", none)]), None, "{none}");
        }
    }

    #[test]
    fn a_wait_of_hours_is_told_and_not_sat_through() {
        let hub =
            asked(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")]);
        assert_eq!((hub.wait(1), hub.words()), (None, "; it takes 100 in 6 h".into()));
        let later = asked(&[("retry-after", "20580")]);
        assert_eq!((later.wait(1), later.words()), (None, "; it asks to wait 6 h".into()));
        // Some are left, so this was not why.
        let left =
            asked(&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "7;w=21600")]);
        assert_eq!((left.wait(1), left.words()), (Some(Duration::from_millis(500)), String::new()));
        assert_eq!(asked(&[("retry-after", "120")]).wait(4), Some(LONGEST));
    }

    #[test]
    fn patience_has_an_end_for_a_request_and_for_a_pull() {
        let now = Asked { wait: Some(Duration::ZERO), limit: None };
        let patience = Patience::default();
        let mut said = Vec::new();
        assert!(patience.wait(1, now, |line| said.push(line.to_owned())));
        assert_eq!(said, ["trying again in 0 s (try 2 of 5)"]);
        assert!(!patience.wait(TRIES, now, |_| panic!("it waits")));
        assert!((2..=WAITS).all(|_| patience.wait(1, now, |_| ())));
        assert!(!patience.wait(1, now, |_| panic!("it waits")));
    }

    #[test]
    fn times_are_for_people() {
        let span = |milliseconds| super::span(Duration::from_millis(milliseconds));
        assert_eq!(
            [span(500), span(4000), span(600_000), span(20_000_000)],
            ["500 ms", "4 s", "10 min", "6 h"]
        );
    }

    proptest! {
        #[test]
        fn no_header_is_a_crash(text in "\\PC{0,30}", number: u64, date in "[A-Za-z0-9,: ]{0,35}") {
            for text in [text, number.to_string(), format!("{number};w={number}"), date] {
                let asked = Asked::of(|_| Some(&text));
                let _ = (asked.wait(1), asked.words());
                prop_assert!(asked.wait(1).is_none_or(|wait| wait <= LONGEST));
            }
        }
    }
}
