//! What holds for any requests and any weights.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::select;

use super::saved::saved_and_restored;
use super::*;

/// One request of a few principals, places and devices, and what became of it.
#[derive(Clone, Debug)]
struct Step {
    wait_s: u64,
    subject: u8,
    address: Option<u8>,
    agent: u8,
    session: u8,
    method: &'static str,
    rule: u8,
    known: Option<u8>,
    is_listed: bool,
    report: Reported,
    device: Option<(u8, bool)>,
    outcome: RequestOutcome,
}

/// What is reported before it.
#[derive(Clone, Copy, Debug)]
enum Reported {
    Nothing,
    Failure,
    Success,
    Keystrokes(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let when = select(vec![0_u64, 1, 30, 3600, 7 * 3600, 86_400, 100 * 86_400]);
    let what = (select(vec!["GET", "POST", "BREW"]), 0_u8..3, any::<bool>());
    let who = (0_u8..3, option::of(0_u8..4), 0_u8..3, 0_u8..2, option::of(0_u8..4));
    let outcome = select(vec![
        RequestOutcome::Permitted,
        RequestOutcome::Permitted,
        RequestOutcome::Challenged,
        RequestOutcome::Denied,
        RequestOutcome::SessionRefused,
        RequestOutcome::Closed,
    ]);
    let report = select(vec![
        Reported::Nothing,
        Reported::Failure,
        Reported::Success,
        Reported::Keystrokes(0),
        Reported::Keystrokes(9),
    ]);
    let device = option::of((select(vec![0_u8, 39, 40, 100]), any::<bool>()));
    (when, what, who, report, device, outcome).prop_map(
        |(wait_s, (method, rule, is_listed), (subject, address, agent, session, known), report, device, outcome)| {
            Step {
                wait_s,
                subject,
                address,
                agent,
                session,
                method,
                rule,
                known,
                is_listed,
                report,
                device,
                outcome,
            }
        },
    )
}

/// Settings under which signals come soon.
fn eager(weights: [u8; 8], switched_on: [bool; 8]) -> RiskSettings {
    let mut settings = settings();
    settings.location.as_mut().unwrap().weight = weights[0];
    settings.device.as_mut().unwrap().weight = weights[1];
    settings.threat_list.as_mut().unwrap().weight = weights[4];
    let time = settings.time.as_mut().unwrap();
    (time.weight, time.observations_min) = (weights[2], 2);
    let behaviour = settings.behaviour.as_mut().unwrap();
    behaviour.weight = weights[3];
    behaviour.observations_min = 2;
    behaviour.rate_windows_min = 1;
    behaviour.rate_requests_min = 3;
    behaviour.denials_min = 2;
    let authentication = settings.authentication.as_mut().unwrap();
    (authentication.weight, authentication.failures_min) = (weights[5], 2);
    let token = settings.token.as_mut().unwrap();
    (token.weight, token.locations_max) = (weights[6], 1);
    let dynamics = settings.dynamics.as_mut().unwrap();
    (dynamics.weight, dynamics.anomaly_above, dynamics.challenge_above) = (weights[7], 10, 1000);
    settings.authentication = settings.authentication.filter(|_| switched_on[5]);
    settings.token = settings.token.filter(|_| switched_on[6]);
    settings.dynamics = settings.dynamics.filter(|_| switched_on[7]);
    settings.location = settings.location.filter(|_| switched_on[0]);
    settings.device = settings.device.filter(|_| switched_on[1]);
    settings.time = settings.time.filter(|_| switched_on[2]);
    settings.behaviour = settings.behaviour.filter(|_| switched_on[3]);
    settings.threat_list = settings.threat_list.filter(|_| switched_on[4]);
    settings.principals_max = 2;
    settings
}

fn take(world: &mut World, step: &Step) -> Assessment {
    const PLACES: [(&str, f64, f64); 4] = [
        ("DE", 52.0, 13.0),
        ("FR", 48.8, 2.3),
        ("JP", 35.6, 139.7),
        ("US", 40.7, -74.0),
    ];
    let mut asked = request();
    asked.principal = Some(user(&step.subject.to_string()));
    asked.principal.as_mut().unwrap().session_id = Some(step.session.to_string());
    asked.context.source_address = step.address.map(|n| IpAddr::from([192, 0, n, 7]));
    asked.context.user_agent = Some(step.agent.to_string());
    asked.action.method = step.method.into();
    asked.route_rule = step.rule.to_string();
    world.at_s += step.wait_s;
    report(world, step);
    let address = step.known.map_or(AddressInfo::default(), |n| {
        let (country, north, east) = PLACES[usize::from(n)];
        known(country, u32::from(n), Some((north, east)))
    });
    let lists = threat_lists::lists("192.0.1.0/24");
    let known = step.device.map(|(trust_score, is_compliant)| DeviceFacts {
        id: "laptop".to_owned(),
        trust_score,
        is_compliant,
        ..DeviceFacts::trusted(None)
    });
    let facts = RequestFacts::new(&asked, address, Timestamp::from_ms(world.at_s * 1000)).from_device(known.as_ref());
    let listing = facts
        .address()
        .filter(|_| step.is_listed)
        .and_then(|address| lists.find(address));
    let assessment = world.engine.assess(&facts, listing.as_ref());
    world.engine.learn(&facts, &assessment, step.outcome);
    assessment
}

fn report(world: &mut World, step: &Step) {
    let issuer = "https://issuer.example";
    let principal = PrincipalKey::of_user(issuer, &step.subject.to_string());
    let at = Timestamp::from_ms(world.at_s * 1000);
    let mut authenticated = |outcome| {
        let place = None;
        let report = AuthenticationReport { outcome, at, place };
        world.engine.report_authentication(principal, &report);
    };
    match step.report {
        Reported::Nothing => {}
        Reported::Failure => authenticated(AuthenticationOutcome::Failed),
        Reported::Success => authenticated(AuthenticationOutcome::Succeeded),
        Reported::Keystrokes(tenths) => {
            let session = SessionKey::of(issuer, SessionName::SessionId(&step.session.to_string()));
            let measured = Measurements::default().with(Measure::KeystrokeVariance, f64::from(tenths) / 10.0);
            world.engine.report_dynamics(principal, session, at, measured.unwrap());
        }
    }
}

fn assessments(settings: &RiskSettings, steps: &[Step]) -> Vec<Assessment> {
    let mut world = World::new(settings.clone());
    steps.iter().map(|step| take(&mut world, step)).collect()
}

fn names(assessment: &Assessment) -> Vec<Signal> {
    assessment.signals.iter().map(|fired| fired.signal).collect()
}

fn weights() -> impl Strategy<Value = [u8; 8]> {
    proptest::array::uniform8(0_u8..=100)
}

fn switches() -> impl Strategy<Value = [bool; 8]> {
    proptest::array::uniform8(any::<bool>())
}

/// The kinds in the order of weights and switches.
const KINDS: [SignalKind; 8] = [
    SignalKind::Location,
    SignalKind::Device,
    SignalKind::Time,
    SignalKind::Behaviour,
    SignalKind::ThreatList,
    SignalKind::Authentication,
    SignalKind::Token,
    SignalKind::Dynamics,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_score_is_the_capped_sum_of_the_weights_of_its_kinds(
        weights in weights(),
        switches in switches(),
        steps in vec(step(), 0..60),
    ) {
        for assessment in assessments(&eager(weights, switches), &steps) {
            let kinds: BTreeSet<SignalKind> = names(&assessment).into_iter().map(Signal::kind).collect();
            let sum: u32 = KINDS.iter().zip(weights).filter(|(kind, _)| kinds.contains(kind)).map(|(_, w)| u32::from(w)).sum();
            prop_assert_eq!(u32::from(assessment.risk.score), sum.min(100));
            prop_assert_eq!(assessment.risk.level, settings().levels.of(assessment.risk.score));
            for (kind, is_on) in KINDS.iter().zip(switches) {
                prop_assert!(is_on || !kinds.contains(kind), "{:?} is switched off", kind);
            }
            for fired in &assessment.signals {
                prop_assert!(fired.explanation.contains(|c: char| c.is_ascii_digit()), "{}", fired.explanation);
                prop_assert!(fired.explanation.len() < 300, "{}", fired.explanation);
            }
        }
    }

    #[test]
    fn more_weight_is_never_less_risk(
        weights in weights(),
        more in proptest::array::uniform8(0_u8..=100),
        switches in switches(),
        steps in vec(step(), 0..40),
    ) {
        let heavier: [u8; 8] = std::array::from_fn(|n| weights[n].saturating_add(more[n]).min(100));
        let light = assessments(&eager(weights, switches), &steps);
        let heavy = assessments(&eager(heavier, switches), &steps);
        for (light, heavy) in light.iter().zip(&heavy) {
            prop_assert_eq!(names(light), names(heavy));
            prop_assert!(light.risk.score <= heavy.risk.score);
            prop_assert!(light.risk.level <= heavy.risk.level);
        }
    }

    #[test]
    fn a_signal_that_is_switched_off_changes_no_other(switched_off in 0_usize..8, steps in vec(step(), 0..60)) {
        let mut switches = [true; 8];
        let all = assessments(&eager([10; 8], switches), &steps);
        switches[switched_off] = false;
        let fewer = assessments(&eager([10; 8], switches), &steps);
        for (all, fewer) in all.iter().zip(&fewer) {
            let mut expected = names(all);
            expected.retain(|signal| signal.kind() != KINDS[switched_off]);
            prop_assert_eq!(names(fewer), expected);
        }
    }

    #[test]
    fn the_same_requests_in_the_same_order_are_assessed_alike_also_across_a_restart(
        steps in vec(step(), 0..60),
        restart in any::<proptest::sample::Index>(),
    ) {
        let settings = eager([10; 8], [true; 8]);
        let once = assessments(&settings, &steps);
        let mut world = World::new(settings.clone());
        let restart = restart.index(steps.len() + 1);
        let mut again = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            if index == restart {
                world.engine = saved_and_restored(&world.engine, settings.clone());
            }
            again.push(take(&mut world, step));
        }
        prop_assert_eq!(once, again);
    }
}

/// Each signal is there in some of the random runs, or the properties above say nothing about it.
#[test]
fn the_random_requests_make_every_signal() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let steps = vec(step(), 60..61);
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let steps = proptest::strategy::ValueTree::current(&steps.new_tree(&mut runner).unwrap());
        let found = assessments(&eager([10; 8], [true; 8]), &steps);
        seen.extend(found.iter().flat_map(names));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), Signal::ALL);
}

#[test]
fn a_million_principals_leave_no_more_than_are_remembered() {
    let mut world = World::new(RiskSettings {
        principals_max: 1000,
        ..settings()
    });
    let mut asked = request();
    for n in 0..1_000_000_u32 {
        asked.principal.as_mut().unwrap().subject = n.to_string();
        world.permit(&asked);
    }
    assert_eq!(world.engine.principals(), 1000);
    let keys: Vec<PrincipalKey> = world.engine.baselines().map(|(key, _)| key).collect();
    let last = |n: u32| PrincipalKey::of_user("https://issuer.example", &n.to_string());
    // Those that were seen last, in their order.
    assert_eq!(keys, (999_000..1_000_000).map(last).collect::<Vec<_>>());
}
