//! What others report, what the service sees of authentications, and tokens in several hands.

use super::*;

const ISSUER: &str = "https://issuer.example";

impl World {
    fn authenticated(&mut self, outcome: AuthenticationOutcome, address: &str) -> ReportOutcome {
        let report = AuthenticationReport {
            outcome,
            at: Timestamp::from_ms(self.at_s * 1000),
            place: Place::of(address.parse().ok(), AddressInfo::default()),
        };
        let alice = PrincipalKey::of_user(ISSUER, "alice");
        self.engine.report_authentication(alice, &report)
    }

    fn failed(&mut self, times: usize) {
        for _ in 0..times {
            self.authenticated(AuthenticationOutcome::Failed, "192.0.2.7");
        }
    }

    fn handled(&mut self, session: &str, measured: &[(Measure, f64)]) -> Option<u32> {
        let alice = PrincipalKey::of_user(ISSUER, "alice");
        let session = SessionKey::of(ISSUER, SessionName::SessionId(session));
        let at = Timestamp::from_ms(self.at_s * 1000);
        self.engine.report_dynamics(alice, session, at, of(measured))
    }
}

fn of(measured: &[(Measure, f64)]) -> Measurements {
    let add = |all: Measurements, (measure, value): &(Measure, f64)| all.with(*measure, *value).unwrap();
    measured.iter().fold(Measurements::default(), add)
}

#[test]
fn failed_authentications_are_a_signal_for_as_long_as_they_are_recent() {
    let mut world = settled();
    world.failed(4);
    world.check(&request(), 0, &[]);
    world.at_s += 60;
    world.authenticated(AuthenticationOutcome::Failed, "198.51.100.1");
    let failed = world.check(&request(), 20, &[Signal::FailedAuthentications]);
    check_explained(
        &failed,
        &["5 failed authentications in the last 600 s, from 2 known locations"],
    );
    // Whoever has guessed at last has guessed wrong before.
    world.authenticated(AuthenticationOutcome::Succeeded, "198.51.100.1");
    world.check(&request(), 20, &[Signal::FailedAuthentications]);
    world.at_s += 539;
    world.check(&request(), 20, &[Signal::FailedAuthentications]);
    world.at_s += 1;
    world.check(&request(), 0, &[]);
}

#[test]
fn a_revoked_session_that_is_used_on_is_a_failure_and_one_that_is_over_is_none() {
    let mut world = settled();
    for _ in 0..40 {
        world.at_s += 5;
        world.learn(&request(), RequestOutcome::Closed);
    }
    world.check(&request(), 0, &[]);
    // What a client asks for in one second is one try.
    for _ in 0..40 {
        world.learn(&request(), RequestOutcome::SessionRefused);
    }
    world.check(&request(), 0, &[]);
    for _ in 0..4 {
        world.at_s += 5;
        world.learn(&request(), RequestOutcome::SessionRefused);
    }
    // It is no burst of denials besides.
    world.check(&request(), 20, &[Signal::FailedAuthentications]);
}

#[test]
fn challenges_count_by_the_second_until_an_authentication() {
    let mut world = settled();
    let mut challenged = |seconds: usize| {
        for _ in 0..seconds {
            world.at_s += 10;
            for _ in 0..5 {
                world.learn(&request(), RequestOutcome::Challenged);
            }
        }
        let before = world.assess(&request());
        world.authenticated(AuthenticationOutcome::Succeeded, "192.0.2.7");
        world.check(&request(), 0, &[]);
        before
    };
    assert_eq!(challenged(19).risk.score, 0);
    let many = challenged(20);
    assert_eq!(many.risk.score, 20);
    check_explained(
        &many,
        &["challenged in 20 seconds of the last 600 s, and no authentication since"],
    );
    // A token from after them settles them as well; one from before does not.
    let mut world = settled();
    for _ in 0..20 {
        world.at_s += 10;
        world.learn(&request(), RequestOutcome::Challenged);
    }
    for (before_s, score) in [(0, 0), (191, 20)] {
        let mut asked = request();
        let auth_time_s = i64::try_from(world.at_s - before_s).unwrap();
        asked.principal.as_mut().unwrap().auth_time_s = Some(auth_time_s);
        assert_eq!(world.assess(&asked).risk.score, score, "{before_s}");
    }
    let mut settings = settings();
    settings.authentication.as_mut().unwrap().challenges_min = 0;
    let mut world = settled_with(settings);
    for _ in 0..40 {
        world.at_s += 5;
        world.learn(&request(), RequestOutcome::Challenged);
    }
    world.check(&request(), 0, &[]);
}

#[test]
fn a_principal_that_only_reports_name_is_kept_aside_until_it_comes() {
    let mut world = World::new(settings());
    assert_eq!(
        world.authenticated(AuthenticationOutcome::Succeeded, "192.0.2.7"),
        ReportOutcome::Ignored
    );
    for _ in 0..5 {
        let noted = world.authenticated(AuthenticationOutcome::Failed, "192.0.2.7");
        assert_eq!(noted, ReportOutcome::KeptAside);
    }
    assert_eq!(world.engine.principals(), 0);
    world.check(&request(), 20, &[Signal::FailedAuthentications]);
    world.permit(&request());
    world.check(&request(), 20, &[Signal::FailedAuthentications]);
    assert_eq!(
        world.authenticated(AuthenticationOutcome::Failed, "192.0.2.7"),
        ReportOutcome::Learned
    );
    assert_eq!(
        world.handled("session-1", &[(Measure::KeystrokeVariance, 0.5)]),
        Some(15)
    );
}

#[test]
fn names_that_are_made_up_push_no_baseline_out() {
    let mut world = settled();
    let report = AuthenticationReport {
        outcome: AuthenticationOutcome::Failed,
        at: Timestamp::from_s(1),
        place: None,
    };
    for n in 0..10_000 {
        let nobody = PrincipalKey::of_user(ISSUER, &format!("nobody {n}"));
        world.engine.report_authentication(nobody, &report);
        let session = SessionKey::of(ISSUER, SessionName::TokenId("t"));
        let measured = of(&[(Measure::TouchArea, 1.0)]);
        assert_eq!(
            world
                .engine
                .report_dynamics(nobody, session, Timestamp::from_s(1), measured),
            None
        );
    }
    assert_eq!(world.engine.principals(), 1);
    // A sixteenth of 100 are kept aside, and alice is known as before.
    assert_eq!(world.engine.unseen_principals(), 6);
    world.check(&from("198.51.100.1"), 30, &[Signal::NewLocation]);
}

#[test]
fn a_token_in_several_hands_is_a_signal_whoever_of_them_asks() {
    let by = |peer: &str| {
        let mut asked = request();
        asked.peer = peer.parse().ok();
        asked
    };
    let only_tokens = RiskSettings {
        device: None,
        location: None,
        ..settings()
    };
    let mut world = settled_with(only_tokens.clone());
    world.permit(&request());
    world.learn(&by("spiffe://example.org/batch"), RequestOutcome::Denied);
    world.check(&by("spiffe://example.org/batch"), 0, &[]);
    let third = world.check(&by("spiffe://example.org/evil"), 20, &[Signal::SharedToken]);
    check_explained(
        &third,
        &["within 300 s the token was used from 3 peers, where 2 are usual at most"],
    );
    world.check(&request(), 0, &[]);
    world.learn(&by("spiffe://example.org/evil"), RequestOutcome::Denied);
    world.check(&request(), 20, &[Signal::SharedToken]);
    // Another token of the same session is another one.
    let mut other = request();
    other.principal.as_mut().unwrap().token_id = Some("token-2".into());
    world.check(&other, 0, &[]);
    world.at_s += 300;
    world.check(&by("spiffe://example.org/evil"), 0, &[]);

    let mut world = settled_with(only_tokens);
    for n in 0..2 {
        world.permit(&from(&format!("198.51.{n}.1")));
        world.permit(&from(&format!("198.51.{n}.2")));
    }
    let third = world.check(&from("203.0.113.1"), 20, &[Signal::SharedToken]);
    check_explained(
        &third,
        &["the token was used from 3 locations, where 2 are usual at most"],
    );
}

#[test]
fn a_token_without_an_id_is_known_by_its_session() {
    let mut world = settled_with(RiskSettings {
        location: None,
        ..settings()
    });
    let by_session = |address: &str| {
        let mut asked = from(address);
        asked.principal.as_mut().unwrap().token_id = None;
        asked
    };
    for n in 0..2 {
        world.permit(&by_session(&format!("198.51.{n}.1")));
    }
    world.check(&by_session("203.0.113.1"), 20, &[Signal::SharedToken]);
    let mut nameless = by_session("203.0.113.1");
    nameless.principal.as_mut().unwrap().session_id = None;
    world.check(&nameless, 0, &[]);
}

/// Alice with a mouse of about 500, and touches of about 0.5 and 20.
fn handled() -> World {
    let mut world = settled();
    for n in 0..20_u32 {
        world.at_s += 60;
        let varied = f64::from(n % 3) - 1.0;
        let usual = [
            (Measure::MouseVelocity, 500.0 + 20.0 * varied),
            (Measure::TouchPressure, 0.5 + 0.02 * varied),
            (Measure::TouchArea, 20.0 + varied),
            (Measure::KeystrokeVariance, 0.2),
        ];
        assert_eq!(world.handled("session-1", &usual), Some(0), "{n}");
    }
    world
}

#[test]
fn each_measure_that_is_off_adds_and_above_thirty_is_an_anomaly() {
    use Measure::{KeystrokeVariance, MouseVelocity, TouchArea, TouchPressure};
    let mut world = handled();
    let mut check = |measured: &[(Measure, f64)], anomaly: u32, score: u8| {
        assert_eq!(world.handled("session-1", measured), Some(anomaly), "{measured:?}");
        let signals: &[Signal] = match score {
            0 => &[],
            _ => &[Signal::UnusualDynamics],
        };
        world.check(&request(), score, signals)
    };
    check(&[(MouseVelocity, 900.0)], 10, 0);
    // Only faster than usual is off.
    check(&[(MouseVelocity, 1.0)], 0, 0);
    check(&[(KeystrokeVariance, 0.3)], 0, 0);
    check(&[(KeystrokeVariance, 0.31)], 15, 0);
    check(&[(TouchPressure, 0.9)], 15, 0);
    check(&[(TouchPressure, 0.1)], 15, 0);
    check(&[(TouchArea, 5.0)], 15, 0);
    check(&[(KeystrokeVariance, 0.4), (TouchArea, 5.0)], 30, 0);
    let anomaly = check(
        &[(MouseVelocity, 900.0), (KeystrokeVariance, 0.4), (TouchPressure, 0.9)],
        40,
        20,
    );
    check_explained(
        &anomaly,
        &[
            "has an anomaly score of 40, above 30: mouse velocity 900.00 where the limit is ",
            " (+10), keystroke variance 0.40 where the limit is 0.30 (+15), touch pressure 0.90 where the limit is ",
        ],
    );
    let all = [
        (MouseVelocity, 900.0),
        (KeystrokeVariance, 0.4),
        (TouchPressure, 0.9),
        (TouchArea, 5.0),
    ];
    let challenged = check(&all, 55, 50);
    assert_eq!(challenged.risk.level, RiskLevel::High);
    // The newest report is the one that counts.
    check(&[(KeystrokeVariance, 0.1)], 0, 0);
}

#[test]
fn who_begins_to_use_a_mouse_is_learnt_too() {
    let mut world = settled();
    for _ in 0..20 {
        world.at_s += 60;
        assert_eq!(world.handled("session-1", &[(Measure::MouseVelocity, 0.0)]), Some(0));
    }
    let moved = [(Measure::MouseVelocity, 500.0)];
    assert_eq!(world.handled("session-1", &moved), Some(10));
    for _ in 0..2_000 {
        world.at_s += 60;
        world.handled("session-1", &moved);
    }
    assert_eq!(world.handled("session-1", &moved), Some(0));
}

#[test]
fn an_anomaly_is_that_of_one_session_and_passes() {
    let mut world = handled();
    let off = [
        (Measure::MouseVelocity, 900.0),
        (Measure::KeystrokeVariance, 0.4),
        (Measure::TouchPressure, 0.9),
    ];
    world.handled("session-2", &off);
    world.check(&request(), 0, &[]);
    let mut other = request();
    other.principal.as_mut().unwrap().session_id = Some("session-2".into());
    world.check(&other, 20, &[Signal::UnusualDynamics]);
    world.at_s += 599;
    world.check(&other, 20, &[Signal::UnusualDynamics]);
    world.at_s += 1;
    world.check(&other, 0, &[]);
}

#[test]
fn what_is_an_anomaly_is_not_learnt_and_a_flood_teaches_little() {
    use Measure::{KeystrokeVariance, MouseVelocity, TouchPressure};
    let fast = (MouseVelocity, 600.0);
    let mut world = handled();
    for _ in 0..1000 {
        world.at_s += 60;
        let off = [(MouseVelocity, 700.0), (KeystrokeVariance, 0.9), (TouchPressure, 0.9)];
        assert_eq!(world.handled("session-1", &off), Some(40));
    }
    let mut world = handled();
    for _ in 0..1000 {
        world.handled("session-1", &[(MouseVelocity, 650.0)]);
    }
    // All of that was within one minute.
    assert_eq!(world.handled("session-1", &[(MouseVelocity, 651.0)]), Some(10));
    // Over hours, a hand may change.
    for _ in 0..1000 {
        world.at_s += 60;
        world.handled("session-1", &[fast]);
    }
    assert_eq!(world.handled("session-1", &[fast]), Some(0));
}

#[test]
fn before_there_are_enough_reports_only_keystrokes_are_off() {
    let mut world = settled();
    for _ in 0..19 {
        world.at_s += 60;
        world.handled("session-1", &[(Measure::MouseVelocity, 500.0)]);
    }
    assert_eq!(world.handled("session-1", &[(Measure::MouseVelocity, 9000.0)]), Some(0));
    assert_eq!(
        world.handled("session-1", &[(Measure::KeystrokeVariance, 1.0)]),
        Some(15)
    );
    assert_eq!(Measurements::default().with(Measure::TouchArea, f64::NAN), None);
    assert_eq!(Measurements::default().with(Measure::TouchArea, -0.1), None);
    assert_eq!(Measurements::default().with(Measure::TouchArea, 1_000_001.0), None);
    assert!(Measurements::default().is_empty());
}

#[test]
fn what_is_switched_off_is_no_signal() {
    let mut world = settled_with(RiskSettings {
        authentication: None,
        token: None,
        dynamics: None,
        location: None,
        ..settings()
    });
    world.failed(30);
    assert_eq!(world.handled("session-1", &[(Measure::KeystrokeVariance, 1.0)]), None);
    for n in 0..9 {
        world.permit(&from(&format!("198.51.{n}.1")));
    }
    world.check(&request(), 0, &[]);
}

fn authenticated(amr: &[&str], acr: Option<&str>) -> Principal {
    Principal {
        amr: amr.iter().map(|method| (*method).to_owned()).collect(),
        acr: acr.map(str::to_owned),
        ..user("alice")
    }
}

#[test]
fn factors_are_those_that_the_token_does_not_show() {
    use Factor::{BiometricOrHardwareKey as Strong, OneTimeCode as Code, Password};
    let settings = FactorSettings::new([vec!["pw".into()], vec!["mfa".into()], vec!["hardware".into()]]);
    let missing = |level, amr: &[&str]| {
        let missing = settings.missing(level, &authenticated(amr, None));
        missing.map(|missing| (missing.factors, missing.step_up.acr_values().join(",")))
    };
    let needs = |factors: &[Factor], acr: &str| Some((factors.to_vec(), acr.to_owned()));
    assert_eq!(missing(RiskLevel::Low, &["pwd"]), None);
    assert_eq!(missing(RiskLevel::Low, &[]), needs(&[Password], "pw"));
    assert_eq!(missing(RiskLevel::Low, &["otp"]), needs(&[Password], "pw"));
    assert_eq!(missing(RiskLevel::Medium, &["pwd"]), needs(&[Code], "mfa"));
    assert_eq!(missing(RiskLevel::Medium, &[]), needs(&[Password, Code], "mfa"));
    for second in ["otp", "sms", "mfa", "swk", "hwk", "fpt"] {
        assert_eq!(missing(RiskLevel::Medium, &["pwd", second]), None, "{second}");
    }
    for second in ["otp", "swk", "mfa"] {
        assert_eq!(
            missing(RiskLevel::High, &["pwd", second]),
            needs(&[Strong], "hardware"),
            "{second}"
        );
    }
    assert_eq!(missing(RiskLevel::High, &["pwd"]), needs(&[Code, Strong], "hardware"));
    for strong in ["face", "fpt", "iris", "retina", "vbm", "hwk", "sc"] {
        assert_eq!(missing(RiskLevel::High, &["pwd", strong]), None, "{strong}");
        assert_eq!(
            missing(RiskLevel::High, &[strong]),
            needs(&[Password], "hardware"),
            "{strong}"
        );
    }
    // Case matters, as in the registry (RFC 8176 §6).
    assert_eq!(missing(RiskLevel::Low, &["PWD"]), needs(&[Password], "pw"));
}

#[test]
fn a_class_of_the_level_or_a_higher_one_shows_its_factors() {
    let settings = FactorSettings::new([vec![], vec!["mfa".into()], vec!["hardware".into()]]);
    let is_missing = |level, acr| settings.missing(level, &authenticated(&[], acr)).is_some();
    assert!(!is_missing(RiskLevel::Low, None), "this level is left to the policies");
    assert!(is_missing(RiskLevel::Medium, None));
    assert!(is_missing(RiskLevel::Medium, Some("pw")));
    assert!(!is_missing(RiskLevel::Medium, Some("mfa")));
    assert!(!is_missing(RiskLevel::Medium, Some("hardware")));
    assert!(is_missing(RiskLevel::High, Some("mfa")));
    assert!(!is_missing(RiskLevel::High, Some("hardware")));
    assert!(settings.are_enforced());
    assert!(!FactorSettings::default().are_enforced());
}

fn laptop(trust_score: u8, is_compliant: bool) -> DeviceFacts {
    DeviceFacts {
        id: "laptop".to_owned(),
        trust_score,
        is_compliant,
        ..DeviceFacts::trusted(None)
    }
}

#[test]
fn a_known_device_is_looked_at_whoever_uses_it() {
    let found = |settings: RiskSettings, device: DeviceFacts| {
        let world = World::new(settings);
        let facts = world.facts(&request()).from_device(Some(&device));
        let found = world.engine.assess(&facts, None);
        let signals: Vec<&str> = found.effective_signals().collect();
        (found.risk.score, signals.join(","))
    };
    let check = |device: DeviceFacts, score, signals: &str| {
        let shown = format!("{device:?}");
        assert_eq!(found(settings(), device), (score, signals.to_owned()), "{shown}");
    };
    check(laptop(40, true), 0, "");
    check(laptop(39, true), 25, "low_device_trust");
    check(laptop(100, false), 25, "noncompliant_device");
    // One kind, which weighs once.
    check(laptop(0, false), 25, "low_device_trust,noncompliant_device");
    let mut lenient = settings();
    let device = lenient.device.as_mut().unwrap();
    (device.trust_score_min, device.compliance) = (0, Compliance::Ignored);
    assert_eq!(found(lenient, laptop(0, false)), (0, String::new()));
}

#[test]
fn a_device_that_is_known_is_told_by_its_name_and_not_by_what_its_client_says() {
    let mut world = World::new(settings());
    let with = |world: &World, agent: &str, device: Option<DeviceFacts>| {
        let mut asked = request();
        asked.context.user_agent = Some(agent.to_owned());
        world.facts(&asked).from_device(device.as_ref())
    };
    let known = with(&world, "curl", Some(laptop(100, true)));
    let assessment = world.engine.assess(&known, None);
    world.engine.learn(&known, &assessment, RequestOutcome::Permitted);
    let score = |facts: &RequestFacts| world.engine.assess(facts, None).risk.score;
    assert_eq!(score(&with(&world, "curl 2", Some(laptop(100, true)))), 0);
    assert_eq!(score(&with(&world, "curl", None)), 25);
    let other = DeviceFacts {
        id: "phone".to_owned(),
        ..laptop(100, true)
    };
    let other = world.engine.assess(&with(&world, "curl", Some(other)), None);
    check_explained(&other, &[" (enrolled) is none of the 1 that the principal has used"]);
}
