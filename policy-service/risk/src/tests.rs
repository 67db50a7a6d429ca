use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use picket_model::access::{AccessRequest, Action, Context, Principal, Resource, Sidecar};
use picket_model::decision::{Attribute, Vary};
use picket_model::device::DeviceFacts;
use picket_model::risk::RiskLevel;
use picket_model::time::Timestamp;

use super::*;

mod properties;
mod reports;
mod saved;
mod threat_lists;

/// A Tuesday at midnight, UTC.
const START_S: u64 = 1_700_006_400;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

fn settings() -> RiskSettings {
    RiskSettings {
        principals_max: 100,
        ..RiskSettings::defaults()
    }
}

fn user(subject: &str) -> Principal {
    Principal {
        issuer: "https://issuer.example".into(),
        subject: subject.into(),
        session_id: Some("session-1".into()),
        token_id: Some("token-1".into()),
        expires_at_s: Some(0),
        ..Principal::default()
    }
}

/// What alice usually does.
fn request() -> AccessRequest {
    AccessRequest {
        request_id: "r".into(),
        sidecar: Sidecar {
            workload: "orders".into(),
            ..Sidecar::default()
        },
        route_rule: "orders-read".into(),
        principal: Some(user("alice")),
        peer: "spiffe://example.org/web".parse().ok(),
        action: Action { method: "GET".into() },
        resource: Resource {
            host: "orders.example.org".into(),
            path: "/orders/7".into(),
            ..Resource::default()
        },
        context: Context {
            source_address: "192.0.2.7".parse().ok(),
            user_agent: Some("curl".into()),
            ..Context::default()
        },
        ..AccessRequest::default()
    }
}

fn from(address: &str) -> AccessRequest {
    let mut request = request();
    request.context.source_address = Some(address.parse().unwrap());
    request
}

fn known(country: &str, number: u32, coordinates: Option<(f64, f64)>) -> AddressInfo {
    AddressInfo {
        country: Some(Country::try_from(country.to_owned()).unwrap()),
        autonomous_system: Some(number),
        coordinates: coordinates.map(|(north, east)| Coordinates::new(north, east).unwrap()),
    }
}

/// An engine and the time that its requests come at.
struct World {
    engine: RiskEngine,
    at_s: u64,
    address: AddressInfo,
}

impl World {
    fn new(settings: RiskSettings) -> Self {
        let principals_max = NonZeroUsize::new(settings.principals_max).unwrap();
        Self {
            engine: RiskEngine::new(Arc::new(settings), principals_max),
            at_s: START_S,
            address: AddressInfo::default(),
        }
    }

    fn assess(&self, request: &AccessRequest) -> Assessment {
        self.engine.assess(&self.facts(request), None)
    }

    fn facts(&self, request: &AccessRequest) -> RequestFacts {
        RequestFacts::new(request, self.address, Timestamp::from_ms(self.at_s * 1000))
    }

    fn learn(&mut self, request: &AccessRequest, outcome: RequestOutcome) -> Assessment {
        let facts = RequestFacts::new(request, self.address, Timestamp::from_ms(self.at_s * 1000));
        let assessment = self.engine.assess(&facts, None);
        self.engine.learn(&facts, &assessment, outcome);
        assessment
    }

    fn permit(&mut self, request: &AccessRequest) -> Assessment {
        self.learn(request, RequestOutcome::Permitted)
    }

    /// Nothing but these signals, and the sum of their kinds' weights.
    #[track_caller]
    fn check(&self, request: &AccessRequest, score: u8, signals: &[Signal]) -> Assessment {
        let assessment = self.assess(request);
        let found: Vec<Signal> = assessment.signals.iter().map(|fired| fired.signal).collect();
        assert_eq!(
            (assessment.risk.score, found.as_slice()),
            (score, signals),
            "{assessment:?}"
        );
        assessment
    }
}

/// Alice has been at work for a fortnight, from 8 to 16 UTC, and it is the next day at 10.
fn settled() -> World {
    settled_with(settings())
}

fn settled_with(settings: RiskSettings) -> World {
    let mut world = World::new(settings);
    for day in 0..14 {
        for hour in 8..16 {
            world.at_s = START_S + day * DAY_S + hour * HOUR_S;
            world.permit(&request());
        }
    }
    world.at_s = START_S + 14 * DAY_S + 10 * HOUR_S;
    world
}

#[track_caller]
fn check_explained(assessment: &Assessment, words: &[&str]) {
    let text: Vec<&str> = assessment
        .signals
        .iter()
        .map(|fired| fired.explanation.as_str())
        .collect();
    for word in words {
        assert!(text.iter().any(|text| text.contains(word)), "{word}: {text:?}");
    }
}

#[test]
fn what_is_usual_scores_nothing_and_asks_for_a_password_alone() {
    let world = settled();
    let assessment = world.check(&request(), 0, &[]);
    assert_eq!(assessment.risk.level, RiskLevel::Low);
    assert_eq!(assessment.factors, [Factor::Password]);
}

#[test]
fn the_first_request_of_a_principal_has_nothing_to_be_compared_with() {
    let mut world = World::new(settings());
    world.check(&request(), 0, &[]);
    world.permit(&request());
    world.check(&request(), 0, &[]);
}

#[test]
fn levels_begin_at_their_thresholds_and_ask_for_their_factors() {
    let levels = settings().levels;
    for (score, level, factors) in [
        (0, RiskLevel::Low, 1),
        (19, RiskLevel::Low, 1),
        (20, RiskLevel::Medium, 2),
        (49, RiskLevel::Medium, 2),
        (50, RiskLevel::High, 3),
        (100, RiskLevel::High, 3),
    ] {
        assert_eq!(levels.of(score), level, "{score}");
        assert_eq!(Factor::required_at(level).len(), factors, "{score}");
    }
}

#[test]
fn the_weights_of_kinds_add_up_and_stop_at_100() {
    let world = settled();
    let mut asked = from("198.51.100.1");
    let location = world.check(&asked, 30, &[Signal::NewLocation]);
    assert_eq!(location.risk.level, RiskLevel::Medium);
    assert_eq!(location.factors, [Factor::Password, Factor::OneTimeCode]);
    asked.context.user_agent = Some("other".into());
    asked.principal.as_mut().unwrap().session_id = Some("session-2".into());
    let device = world.check(&asked, 55, &[Signal::NewLocation, Signal::NewDevice]);
    assert_eq!(device.risk.level, RiskLevel::High);
    // Two signals of one kind weigh no more than one.
    asked.action.method = "DELETE".into();
    asked.route_rule = "orders-delete".into();
    let signals = [
        Signal::NewLocation,
        Signal::NewDevice,
        Signal::NewMethod,
        Signal::NewRouteRule,
    ];
    world.check(&asked, 75, &signals);
    let lists = threat_lists::lists("198.51.100.0/24");
    let facts = world.facts(&asked);
    let listing = lists.find("198.51.100.1".parse().unwrap());
    let listed = world.engine.assess(&facts, listing.as_ref());
    assert_eq!(listed.risk.score, 100);
    check_explained(&listed, &["198.51.100.0/24 is in the threat list `bad`, which is "]);
}

#[test]
fn a_location_is_new_until_it_has_settled() {
    let mut world = settled();
    let there = from("198.51.100.1");
    check_explained(&world.permit(&there), &["198.51.100.0/24 is none of the 1 locations"]);
    world.at_s += 60;
    // An attacker's second request is no more usual than the first.
    let second = world.check(&there, 30, &[Signal::NewLocation]);
    check_explained(
        &second,
        &["198.51.100.0/24 was first seen 60 s ago, and is new for 86400 s"],
    );
    world.check(&from("198.51.100.200"), 30, &[Signal::NewLocation]);
    world.check(&request(), 0, &[]);
    world.at_s += DAY_S - 61;
    world.check(&there, 30, &[Signal::NewLocation]);
    world.at_s += 1;
    world.check(&there, 0, &[]);
}

#[test]
fn what_was_denied_teaches_no_location_and_no_device() {
    let mut world = settled();
    let mut there = from("198.51.100.1");
    there.context.user_agent = Some("other".into());
    for _ in 0..4 {
        world.learn(&there, RequestOutcome::Denied);
        world.at_s += DAY_S;
    }
    let signals = [Signal::NewLocation, Signal::NewDevice, Signal::ChangedDevice];
    world.check(&there, 55, &signals);
}

#[test]
fn a_location_that_was_forgotten_is_new() {
    let night_free = RiskSettings {
        time: None,
        ..settings()
    };
    let mut world = settled_with(night_free);
    // The last request was at 15 on the day before.
    world.at_s += 90 * DAY_S - 19 * HOUR_S;
    world.check(&request(), 0, &[]);
    world.at_s += 1;
    let signals = [
        Signal::NewLocation,
        Signal::NewDevice,
        Signal::NewMethod,
        Signal::NewRouteRule,
    ];
    world.check(&request(), 75, &signals);
}

#[test]
fn many_new_locations_do_not_push_out_the_principals_own() {
    let mut world = settled();
    for n in 0..100 {
        world.at_s += 60;
        world.permit(&from(&format!("198.51.{n}.1")));
    }
    world.at_s += 300;
    world.check(&request(), 0, &[]);
    let baseline = world.engine.baseline(&PrincipalKey::of(&request()).unwrap()).unwrap();
    assert_eq!(baseline.places().count(), PLACES_MAX);
}

#[test]
fn a_country_and_its_network_are_the_location_where_they_are_known() {
    let mut world = World::new(settings());
    world.address = known("DE", 3320, None);
    world.permit(&request());
    world.check(&from("203.0.113.9"), 0, &[]);
    world.address = known("DE", 6805, None);
    let other = world.check(&request(), 30, &[Signal::NewLocation]);
    check_explained(&other, &["DE AS6805"]);
    world.address = known("FR", 3320, None);
    world.check(&request(), 30, &[Signal::NewLocation]);
    world.address = AddressInfo::default();
    world.check(&request(), 30, &[Signal::NewLocation]);
}

#[test]
fn a_country_is_told_where_locations_are_looked_at() {
    let country = |settings| {
        let mut world = World::new(settings);
        world.address = known("DE", 3320, None);
        world.assess(&request()).country.map(|country| country.to_string())
    };
    assert_eq!(country(settings()).as_deref(), Some("DE"));
    let without = RiskSettings {
        location: None,
        ..settings()
    };
    assert_eq!(country(without), None);
    assert_eq!(World::new(settings()).assess(&request()).country, None);
}

#[test]
fn ipv6_is_compared_by_48_bits_and_ipv4_in_its_form_by_24() {
    let mut world = World::new(settings());
    world.permit(&from("2001:db8:1:2::3"));
    world.check(&from("2001:db8:1:ffff::1"), 0, &[]);
    let other = world.check(&from("2001:db8:2:2::3"), 30, &[Signal::NewLocation]);
    check_explained(&other, &["2001:db8:2::/48"]);
    let mut world = World::new(settings());
    world.permit(&from("192.0.2.1"));
    world.check(&from("::ffff:192.0.2.99"), 0, &[]);
}

#[test]
fn nobody_travels_faster_than_an_aeroplane() {
    const BERLIN: (f64, f64) = (52.52, 13.405);
    const TOKYO: (f64, f64) = (35.68, 139.69);
    let berlin = Coordinates::new(BERLIN.0, BERLIN.1).unwrap();
    let tokyo = Coordinates::new(TOKYO.0, TOKYO.1).unwrap();
    assert!(
        (berlin.distance_km(tokyo) - 8918.0).abs() < 20.0,
        "{}",
        berlin.distance_km(tokyo)
    );
    let mut world = World::new(settings());
    world.address = known("DE", 1, Some(BERLIN));
    world.permit(&request());
    world.address = known("JP", 2, Some(TOKYO));
    world.at_s += HOUR_S;
    let signals = [Signal::NewLocation, Signal::ImpossibleTravel];
    let travel = world.check(&request(), 30, &signals);
    check_explained(&travel, &[" km in 3600 s since the last permitted request are 89"]);
    world.at_s += 8 * HOUR_S;
    world.check(&request(), 30, &[Signal::NewLocation]);
    // As if at the same instant, but not as far as databases are wrong by.
    let mut world = World::new(settings());
    world.address = known("DE", 1, Some(BERLIN));
    world.permit(&request());
    world.address = known("DE", 1, Some((52.4, 13.06)));
    world.check(&request(), 0, &[]);
    world.address = known("DE", 1, Some((48.14, 11.58)));
    world.check(&request(), 30, &[Signal::ImpossibleTravel]);
}

#[test]
fn coordinates_that_are_not_on_the_globe_are_none() {
    for (north, east) in [(91.0, 0.0), (0.0, 181.0), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
        assert_eq!(Coordinates::new(north, east), None);
    }
}

#[test]
fn a_session_that_goes_on_with_another_device_has_changed_it() {
    let mut world = settled();
    let mut stolen = request();
    stolen.context.user_agent = Some("other".into());
    let signals = [Signal::NewDevice, Signal::ChangedDevice];
    check_explained(&world.check(&stolen, 25, &signals), &["the session began with device "]);
    let mut by_another_peer = request();
    by_another_peer.peer = "spiffe://example.org/batch".parse().ok();
    world.check(&by_another_peer, 25, &signals);
    // The session keeps the device that it began with, also when the other one has settled.
    world.permit(&stolen);
    world.at_s += DAY_S;
    world.check(&stolen, 25, &[Signal::ChangedDevice]);
    stolen.principal.as_mut().unwrap().session_id = Some("session-2".into());
    world.check(&stolen, 0, &[]);
}

#[test]
fn without_a_session_the_token_keeps_its_device() {
    let mut world = World::new(settings());
    let mut asked = request();
    asked.principal.as_mut().unwrap().session_id = None;
    world.permit(&asked);
    asked.context.user_agent = None;
    world.check(&asked, 25, &[Signal::NewDevice, Signal::ChangedDevice]);
    asked.principal.as_mut().unwrap().token_id = None;
    world.check(&asked, 25, &[Signal::NewDevice]);
}

#[test]
fn hours_are_the_principals_own_and_meet_at_midnight() {
    let mut world = settled();
    world.at_s = START_S + 14 * DAY_S + 3 * HOUR_S;
    let night = world.check(&request(), 15, &[Signal::UnusualTime]);
    check_explained(
        &night,
        &["0.0 % of the principal's hours are within one of 03:00 UTC, after "],
    );
    // An hour before the first one is still near.
    world.at_s = START_S + 14 * DAY_S + 7 * HOUR_S;
    world.check(&request(), 0, &[]);
    world.at_s = START_S + 14 * DAY_S + 6 * HOUR_S;
    world.check(&request(), 15, &[Signal::UnusualTime]);

    let mut world = World::new(settings());
    for day in 0..40 {
        world.at_s = START_S + day * DAY_S + 23 * HOUR_S;
        world.permit(&request());
    }
    world.at_s += HOUR_S;
    world.check(&request(), 0, &[]);
    world.at_s += HOUR_S;
    world.check(&request(), 15, &[Signal::UnusualTime]);
}

#[test]
fn hours_do_not_count_before_there_are_enough_of_them() {
    let mut world = World::new(settings());
    let mut active = |days: std::ops::Range<u64>| {
        let end = days.end;
        for hour in days.flat_map(|day| [day * 24 + 8, day * 24 + 9]) {
            world.at_s = START_S + hour * HOUR_S;
            // However many requests there are in an hour, it is one observation.
            for _ in 0..100 {
                world.permit(&request());
            }
        }
        world.at_s = START_S + (end - 1) * DAY_S + 22 * HOUR_S;
        world.assess(&request()).risk.score
    };
    assert_eq!(active(0..7), 0);
    assert_eq!(active(7..10), 15);
}

#[test]
fn old_hours_fade() {
    let mut world = settled();
    // The principal moves to the other side of the globe, and is back for one morning two months
    // later.
    for day in 14..84 {
        for hour in 18..22 {
            world.at_s = START_S + day * DAY_S + hour * HOUR_S;
            world.permit(&request());
        }
    }
    world.at_s = START_S + 84 * DAY_S + 10 * HOUR_S;
    world.check(&request(), 15, &[Signal::UnusualTime]);
    world.at_s += 10 * HOUR_S;
    world.check(&request(), 0, &[]);
}

#[test]
fn a_rate_far_above_the_principals_own_is_unusual() {
    let mut world = World::new(settings());
    for minute in 0..40 {
        for second in 0..if minute % 2 == 0 { 22 } else { 18 } {
            world.at_s = START_S + minute * 60 + second;
            world.permit(&request());
        }
    }
    world.at_s = START_S + 40 * 60;
    let mut fired = 0;
    for _ in 0..200 {
        fired += usize::from(!world.permit(&request()).signals.is_empty());
    }
    // The mean is about 20 and Poisson's deviation 4.5, and less than 60 is never unusual.
    assert_eq!(fired, 200 - 59);
    let flood = world.check(&request(), 20, &[Signal::UnusualRate]);
    check_explained(&flood, &["201 requests in this window of 60 s; usual are 20."]);
    world.at_s += 60;
    world.check(&request(), 0, &[]);
    // The flood has taught no more than what is usual at most.
    world.permit(&request());
    let baseline = world.engine.baseline(&PrincipalKey::of(&request()).unwrap()).unwrap();
    assert!(baseline.usual_rate().0 < 25.0, "{:?}", baseline.usual_rate());
}

#[test]
fn a_method_and_a_route_rule_that_were_not_used_are_new() {
    let world = settled();
    let mut asked = request();
    asked.action.method = "DELETE".into();
    let method = world.check(&asked, 20, &[Signal::NewMethod]);
    check_explained(&method, &["method `DELETE` was not used in 112 permitted requests"]);
    asked.action.method = "GET".into();
    asked.route_rule = "payroll\n".into();
    let rule = world.check(&asked, 20, &[Signal::NewRouteRule]);
    check_explained(
        &rule,
        &["route rule `payroll\\n` was not used in 112 permitted requests"],
    );
    let mut young = World::new(settings());
    for _ in 0..49 {
        young.permit(&request());
    }
    young.check(&asked, 0, &[]);
    young.permit(&request());
    young.check(&asked, 20, &[Signal::NewRouteRule]);
}

#[test]
fn denials_in_a_burst_are_unusual_until_they_have_passed() {
    let mut world = settled();
    for _ in 0..4 {
        world.learn(&request(), RequestOutcome::Denied);
        world.at_s += 10;
    }
    for _ in 0..9 {
        world.learn(&request(), RequestOutcome::Challenged);
    }
    world.check(&request(), 0, &[]);
    world.learn(&request(), RequestOutcome::Denied);
    let burst = world.check(&request(), 20, &[Signal::DenialBurst]);
    check_explained(&burst, &["5 denials in the last 60 s"]);
    world.at_s += 20;
    world.check(&request(), 0, &[]);
}

#[test]
fn a_workload_has_a_baseline_of_its_own_and_nobody_has_none() {
    let mut world = World::new(settings());
    let mut asked = request();
    asked.principal = None;
    world.permit(&asked);
    let mut elsewhere = from("198.51.100.1");
    world.check(&elsewhere, 0, &[]);
    elsewhere.principal = None;
    world.check(&elsewhere, 30, &[Signal::NewLocation]);
    elsewhere.peer = None;
    world.permit(&elsewhere);
    world.check(&elsewhere, 0, &[]);
    assert_eq!(world.engine.principals(), 1);
    assert_ne!(
        PrincipalKey::of_user("a", "bc"),
        PrincipalKey::of_user("ab", "c"),
        "lengths keep them apart"
    );
}

#[test]
fn learning_scores_without_effect() {
    let mut world = settled_with(RiskSettings {
        mode: RiskMode::Learning,
        ..settings()
    });
    let assessment = world.check(&from("198.51.100.1"), 30, &[Signal::NewLocation]);
    assert_eq!(assessment.effective_risk(), None);
    assert_eq!(assessment.effective_signals().count(), 0);
    world.permit(&from("198.51.100.1"));
    let world = settled();
    let assessment = world.check(&from("198.51.100.1"), 30, &[Signal::NewLocation]);
    assert_eq!(assessment.effective_risk(), Some(assessment.risk));
    assert_eq!(assessment.effective_signals().collect::<Vec<_>>(), ["new_location"]);
}

#[test]
fn an_assessment_names_what_it_looked_at() {
    use Attribute::{Method, Peer, SourceAddress, UserAgent};
    let vary = |change: fn(&mut RiskSettings)| {
        let mut settings = settings();
        change(&mut settings);
        World::new(settings).assess(&request()).vary
    };
    assert_eq!(
        vary(|s| {
            (s.location, s.threat_list, s.device) = (None, None, None);
        }),
        [Peer, Method, SourceAddress].into_iter().collect(),
        "a token's hands"
    );
    let all: Vary = [Peer, Method, SourceAddress, UserAgent].into_iter().collect();
    assert_eq!(vary(|_| ()), all);
    assert_eq!(vary(|s| s.time = None), all);
    assert_eq!(vary(|s| s.location = None), all);
    let known = vary(|s| s.device.as_mut().unwrap().are_known = true);
    assert_eq!(known, all.with(Attribute::Device), "another device is another risk");
    let without_address = [Peer, Method, UserAgent].into_iter().collect();
    assert_eq!(
        vary(|s| {
            (s.location, s.threat_list, s.token) = (None, None, None);
        }),
        without_address
    );
    assert_eq!(
        vary(|s| (s.device, s.token) = (None, None)),
        [Method, SourceAddress].into_iter().collect()
    );
    let without_method = [Peer, SourceAddress, UserAgent].into_iter().collect();
    assert_eq!(vary(|s| s.behaviour = None), without_method);
}

#[test]
fn validity_is_that_of_the_level() {
    let valid = settings().valid_for_ms;
    assert_eq!(RiskLevel::ALL.map(|level| valid.at(level)), [300_000, 60_000, 0]);
}
