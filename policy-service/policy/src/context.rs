//! What an evaluation needs besides the request, as policies read it, and for how long it stays the
//! same.

use jiff::Zoned;
use jiff::tz::TimeZone;
use picket_model::decision::{Attribute as Varying, Vary};
use picket_model::device::DeviceFacts;
use picket_model::problems::shortened;
use picket_model::risk::RiskLevel;
use picket_model::time::Timestamp;
use picket_risk::Assessment;

use super::compared::Ages;
use super::errors::{ModelError, cedar_error};
use super::needs::{Attribute, Attributes};

const MS_PER_S: i64 = 1000;
const MS_PER_MINUTE: i64 = 60 * MS_PER_S;

/// What an evaluation needs besides the access request.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationContext<'a> {
    /// When the request is evaluated.
    pub now: Timestamp,
    /// How unusual the request is; `None`: it was not assessed.
    pub risk: Option<&'a Assessment>,
    /// The device that it comes from; `None`: none that is known.
    pub device: Option<&'a DeviceFacts>,
}

impl EvaluationContext<'_> {
    /// A request of which nothing else is known.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            risk: None,
            device: None,
        }
    }

    /// For how many milliseconds time alone changes nothing of the risk: as long as nothing of the
    /// device that its assessment read. `None`: for ever.
    #[must_use]
    pub fn risk_same_for_ms(&self) -> Option<u64> {
        let reads_device = self.risk.is_some_and(|risk| risk.vary.contains(Varying::Device));
        self.device.filter(|_| reads_device)?.same_for_ms
    }
}

/// The context of one evaluation, with the time in the policies' time zone.
#[derive(Clone, Debug)]
pub(super) struct ZonedContext {
    zoned: Zoned,
    risk: Option<VisibleRisk>,
    device: Option<DeviceFacts>,
}

/// The risk as policies see it. In learning mode its score is 0.
#[derive(Clone, Debug)]
pub(super) struct VisibleRisk {
    /// 0 to 100.
    pub(super) score: i64,
    pub(super) level: &'static str,
    pub(super) signals: Vec<&'static str>,
    /// Where the request comes from; also while risk is only learnt.
    pub(super) country: Option<String>,
    /// The attributes that the assessment read.
    pub(super) vary: Vary,
    /// As [`EvaluationContext::risk_same_for_ms`].
    same_for_ms: Option<u64>,
}

/// Time of day and date in the policies' time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WallTime {
    /// 0 to 23.
    pub(super) hour: i64,
    /// 0 to 59.
    pub(super) minute: i64,
    /// 1 (Monday) to 7 (Sunday), as ISO 8601 counts.
    pub(super) weekday: i64,
    /// Year, month and day as one number: 20261231.
    pub(super) date: i64,
}

/// A time zone by its name in the IANA database, such as `Europe/Berlin`.
///
/// # Errors
/// There is none of this name.
pub fn time_zone(name: &str) -> Result<TimeZone, String> {
    jiff::tz::db().get(name).map_err(|_| {
        format!(
            "`{}` is not a time zone, expected a name of the IANA database such as `Europe/Berlin` or `UTC`",
            shortened(name)
        )
    })
}

impl ZonedContext {
    /// Fails beyond the end of the calendar, in the year 9999.
    pub(super) fn new(context: &EvaluationContext<'_>, zone: &TimeZone) -> Result<Self, ModelError> {
        let unix_us = i64::try_from(context.now.as_us()).unwrap_or(i64::MAX);
        let timestamp = jiff::Timestamp::from_microsecond(unix_us).map_err(cedar_error("time"))?;
        Ok(Self {
            zoned: timestamp.to_zoned(zone.clone()),
            risk: context
                .risk
                .map(|risk| VisibleRisk::of(risk, context.risk_same_for_ms())),
            device: context.device.cloned(),
        })
    }

    /// The same context for a request from another device.
    pub(super) fn on_device(&self, device: DeviceFacts) -> Self {
        Self {
            device: Some(device),
            ..self.clone()
        }
    }

    /// The device as policies see it; `None`: none is known.
    pub(super) fn device(&self) -> Option<&DeviceFacts> {
        self.device.as_ref()
    }

    /// The risk as policies see it; `None`: it was not assessed.
    pub(super) fn risk(&self) -> Option<&VisibleRisk> {
        self.risk.as_ref()
    }

    pub(super) fn wall_time(&self) -> WallTime {
        let zoned = &self.zoned;
        WallTime {
            hour: zoned.hour().into(),
            minute: zoned.minute().into(),
            weekday: zoned.weekday().to_monday_one_offset().into(),
            date: i64::from(zoned.year()) * 10_000 + i64::from(zoned.month()) * 100 + i64::from(zoned.day()),
        }
    }

    /// Whole seconds since then, or 0 where that lies ahead.
    pub(super) fn age_s(&self, unix_s: i64) -> i64 {
        self.zoned.timestamp().as_second().saturating_sub(unix_s).max(0)
    }

    /// When the user would have authenticated who did so that long ago.
    pub(super) fn ago(&self, age_s: i64) -> i64 {
        self.zoned.timestamp().as_second().saturating_sub(age_s)
    }

    /// For how many milliseconds policies that look at these attributes would see the same time,
    /// and the same order of the authentication's age and what they compare it with. `None`: for
    /// ever; 0: it cannot be said.
    pub(super) fn same_for_ms(
        &self,
        read_attributes: Attributes,
        ages: &Ages,
        auth_time_s: Option<i64>,
    ) -> Option<u64> {
        let looks = |attribute| read_attributes.contain(attribute);
        let aged = auth_time_s.filter(|_| looks(Attribute::AuthAge));
        let of_age = aged.and_then(|auth_time_s| match ages {
            Ages::Compared(with) => self.until_age(with.iter().copied(), auth_time_s),
            Ages::Unknown => Some(0),
        });
        let of_clock = match () {
            () if looks(Attribute::Minute) => Some(self.until_minute()),
            () if looks(Attribute::Hour) => Some(self.until_hour()),
            () if looks(Attribute::Weekday) || looks(Attribute::Date) => Some(self.until_day()),
            () => None,
        };
        // A clock that is put forward or back shows another time at once.
        let of_change = of_clock.and_then(|_| self.until_change());
        let ms = [of_age, of_clock, of_change].into_iter().flatten().min();
        let ms = ms.map(|ms| u64::try_from(ms).unwrap_or(0));
        let device = self.device.as_ref().filter(|_| looks(Attribute::Device));
        let risk = self.risk.as_ref().filter(|_| looks(Attribute::Risk));
        let known = [
            device.and_then(|device| device.same_for_ms),
            risk.and_then(|risk| risk.same_for_ms),
        ];
        known.into_iter().chain([ms]).flatten().min()
    }

    fn now_ms(&self) -> i64 {
        self.zoned.timestamp().as_millisecond()
    }

    /// Until the age is the first of these, or has passed it, and was not before.
    fn until_age(&self, ages_s: impl Iterator<Item = i64>, auth_time_s: i64) -> Option<i64> {
        let now_ms = self.now_ms();
        ages_s
            .flat_map(|age_s| [age_s, age_s.saturating_add(1)])
            .map(|age_s| auth_time_s.saturating_add(age_s).saturating_mul(MS_PER_S))
            .filter(|at_ms| *at_ms > now_ms)
            .min()
            .map(|at_ms| at_ms.saturating_sub(now_ms))
    }

    fn until_minute(&self) -> i64 {
        let into_ms = i64::from(self.zoned.second()) * MS_PER_S + i64::from(self.zoned.millisecond());
        MS_PER_MINUTE.saturating_sub(into_ms)
    }

    fn until_hour(&self) -> i64 {
        self.until_minute() + (59 - i64::from(self.zoned.minute())) * MS_PER_MINUTE
    }

    /// 0 where there is no tomorrow: at the end of the calendar.
    fn until_day(&self) -> i64 {
        let tomorrow = self.zoned.tomorrow().and_then(|day| day.start_of_day());
        tomorrow.map_or(0, |day| day.timestamp().as_millisecond().saturating_sub(self.now_ms()))
    }

    fn until_change(&self) -> Option<i64> {
        let change = self.zoned.time_zone().following(self.zoned.timestamp()).next()?;
        Some(change.timestamp().as_millisecond().saturating_sub(self.now_ms()))
    }
}

impl VisibleRisk {
    fn of(assessment: &Assessment, same_for_ms: Option<u64>) -> Self {
        let counted = assessment.effective_risk();
        Self {
            score: counted.map_or(0, |risk| risk.score.into()),
            level: counted.map_or(RiskLevel::Low, |risk| risk.level).name(),
            signals: assessment.effective_signals().collect(),
            country: assessment.country.map(String::from),
            vary: assessment.vary,
            same_for_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn context(time: &str, zone: &str) -> ZonedContext {
        let time: jiff::Timestamp = time.parse().unwrap();
        let now = Timestamp::from_us(u64::try_from(time.as_microsecond()).unwrap());
        ZonedContext::new(&EvaluationContext::at(now), &TimeZone::get(zone).unwrap()).unwrap()
    }

    fn same_for_s(context: &ZonedContext, attribute: Attribute) -> Option<u64> {
        let ms = context.same_for_ms(Attributes::one(attribute), &Ages::default(), None);
        ms.map(|ms| {
            assert_eq!(ms % 1000, 0);
            ms / 1000
        })
    }

    #[test]
    fn clock_and_calendar_are_those_of_the_time_zone() {
        // A Saturday night in Berlin, which is still Saturday evening in Greenwich.
        let berlin = context("2026-11-21T23:30:00Z", "Europe/Berlin").wall_time();
        let expected = WallTime {
            hour: 0,
            minute: 30,
            weekday: 7,
            date: 20_261_122,
        };
        assert_eq!(berlin, expected);
        let utc = context("2026-11-21T23:30:00Z", "UTC").wall_time();
        assert_eq!((utc.hour, utc.weekday, utc.date), (23, 6, 20_261_121));
    }

    #[test]
    fn what_is_seen_ends_with_the_minute_the_hour_or_the_day() {
        let context = context("2026-11-21T10:58:30Z", "Europe/Berlin");
        assert_eq!(same_for_s(&context, Attribute::Minute), Some(30));
        assert_eq!(same_for_s(&context, Attribute::Hour), Some(90));
        // 11:58:30 in Berlin.
        let day_s = 12 * 3600 + 90;
        assert_eq!(same_for_s(&context, Attribute::Weekday), Some(day_s));
        assert_eq!(same_for_s(&context, Attribute::Date), Some(day_s));
        assert_eq!(same_for_s(&context, Attribute::Host), None);
    }

    #[test]
    fn a_clock_that_is_put_back_ends_what_was_seen() {
        // In Berlin the summer time of 2026 ends on October 25 at 03:00, which is 01:00 in
        // Greenwich.
        let context = context("2026-10-25T00:59:50Z", "Europe/Berlin");
        assert_eq!(same_for_s(&context, Attribute::Weekday), Some(10));
    }

    #[test]
    fn an_age_is_the_same_until_it_passes_what_it_is_compared_with() {
        let context = context("2026-11-21T10:00:00.250Z", "UTC");
        let auth_time_s = context.ago(100);
        let same_for = |ages: &[i64]| {
            let ages = Ages::Compared(ages.iter().copied().collect::<BTreeSet<_>>());
            context.same_for_ms(Attributes::one(Attribute::AuthAge), &ages, Some(auth_time_s))
        };
        assert_eq!(context.age_s(auth_time_s), 100);
        assert_eq!(same_for(&[300]), Some(199_750));
        assert_eq!(same_for(&[300, 101]), Some(750));
        // It is 100 now: `<= 100` becomes false with the next second.
        assert_eq!(same_for(&[100]), Some(750));
        assert_eq!(same_for(&[99, 0, -5]), None);
        let anyhow = context.same_for_ms(Attributes::one(Attribute::AuthAge), &Ages::Unknown, Some(auth_time_s));
        assert_eq!(anyhow, Some(0));
        let without = context.same_for_ms(Attributes::one(Attribute::AuthAge), &Ages::Unknown, None);
        assert_eq!(without, None);
    }

    #[test]
    fn an_authentication_that_lies_ahead_is_0_seconds_old() {
        let context = context("2026-11-21T10:00:00Z", "UTC");
        let ahead_s = context.ago(-30);
        assert_eq!(context.age_s(ahead_s), 0);
        let ages = Ages::Compared(BTreeSet::from([10]));
        let same_for = context.same_for_ms(Attributes::one(Attribute::AuthAge), &ages, Some(ahead_s));
        assert_eq!(same_for, Some(40_000));
    }
}
