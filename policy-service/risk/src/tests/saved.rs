use super::*;

fn save(engine: &RiskEngine) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_state(&mut bytes, engine.baselines()).unwrap();
    bytes
}

fn load(mut bytes: &[u8]) -> Result<RiskEngine, StateError> {
    let mut engine = RiskEngine::new(Arc::new(settings()), NonZeroUsize::new(100).unwrap());
    read_state(&mut bytes, |principal, baseline| engine.restore(principal, baseline))?;
    Ok(engine)
}

pub(super) fn saved_and_restored(engine: &RiskEngine, settings: RiskSettings) -> RiskEngine {
    let principals_max = NonZeroUsize::new(settings.principals_max).unwrap();
    let mut restored = RiskEngine::new(Arc::new(settings), principals_max);
    read_state(&mut save(engine).as_slice(), |principal, baseline| {
        restored.restore(principal, baseline);
    })
    .unwrap();
    restored
}

/// Several principals with everything that a baseline can hold.
fn full() -> RiskEngine {
    let mut world = settled();
    for n in 0..40_u32 {
        let mut asked = from(&format!("198.51.{n}.1"));
        asked.route_rule = format!("rule-{n}");
        asked.context.user_agent = Some(format!("agent {n}"));
        asked.principal.as_mut().unwrap().session_id = Some(format!("session {n}"));
        world.address = match n % 3 {
            0 => AddressInfo::default(),
            1 => known("DE", n, Some((50.0, 7.0))),
            _ => AddressInfo {
                autonomous_system: Some(n),
                ..AddressInfo::default()
            },
        };
        asked.principal.as_mut().unwrap().token_id = Some(format!("token {n}"));
        for peer in 0..10 {
            let mut shared = asked.clone();
            shared.peer = format!("spiffe://example.org/peer-{peer}").parse().ok();
            shared.context.source_address = format!("203.0.{peer}.1").parse().ok();
            world.learn(&shared, RequestOutcome::Challenged);
        }
        world.at_s += u64::from(n) * 1000;
        report(&mut world, &format!("session {n}"));
        world.permit(&asked);
        world.learn(&asked, RequestOutcome::Denied);
        asked.principal.as_mut().unwrap().subject = format!("subject {n}");
        asked.context.source_address = "2001:db8::1".parse().ok();
        world.permit(&asked);
    }
    world.engine
}

/// Each kind of report about alice, with all that it can hold.
fn report(world: &mut World, session: &str) {
    let alice = PrincipalKey::of(&request()).unwrap();
    let at = Timestamp::from_ms(world.at_s * 1000);
    let failed = AuthenticationReport {
        outcome: AuthenticationOutcome::Failed,
        at,
        place: Place::of("2001:db8::7".parse().ok(), AddressInfo::default()),
    };
    world.engine.report_authentication(alice, &failed);
    let session = SessionKey::of("https://issuer.example", SessionName::SessionId(session));
    let all = |value: f64| {
        let with = |measured: Measurements, measure| measured.with(measure, value).unwrap();
        Measure::ALL.into_iter().fold(Measurements::default(), with)
    };
    for value in [0.2, 99_999.9] {
        world.engine.report_dynamics(alice, session, at, all(value));
    }
}

#[test]
fn what_was_saved_comes_back_with_the_least_recently_seen_first() {
    let engine = full();
    let restored = load(&save(&engine)).unwrap();
    let all = |engine: &RiskEngine| -> Vec<_> {
        engine
            .baselines()
            .map(|(key, baseline)| (key, baseline.clone()))
            .collect()
    };
    assert_eq!(all(&engine).len(), 41);
    assert_eq!(all(&restored), all(&engine));
}

#[test]
fn no_name_is_saved() {
    let text = String::from_utf8(save(&full())).unwrap();
    for name in [
        "alice",
        "subject",
        "issuer.example",
        "agent",
        "session ",
        "rule-",
        "spiffe",
    ] {
        assert!(!text.contains(name), "{name}");
    }
}

#[test]
fn a_baseline_that_is_full_is_small() {
    let engine = full();
    let baseline = engine.baseline(&PrincipalKey::of(&request()).unwrap()).unwrap();
    let saved = serde_json::to_vec(baseline).unwrap();
    assert!(saved.len() < 14 * 1024, "{}", saved.len());
    assert_eq!(baseline.places().count(), PLACES_MAX);
    assert_eq!(baseline.devices().count(), DEVICES_MAX);
    assert_eq!(baseline.history().count(), HISTORY_MAX);
}

#[test]
fn any_byte_that_was_altered_is_found() {
    let whole = save(&full());
    let mut accepted = 0;
    // Every byte of the beginning and the end, and some between.
    let places = (0..whole.len()).filter(|at| *at < 300 || *at > whole.len() - 300 || at % 97 == 0);
    for at in places {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        accepted += usize::from(load(&altered).is_ok());
    }
    assert_eq!(accepted, 0);
}

#[test]
fn a_file_that_was_cut_is_found_wherever_it_was() {
    let whole = save(&full());
    for length in (0..whole.len()).filter(|length| *length < 300 || *length > whole.len() - 300 || length % 97 == 0) {
        assert!(load(&whole[..length]).is_err(), "{length}");
    }
    let end = whole.iter().rev().skip(1).position(|byte| *byte == b'\n').unwrap();
    let error = load(&whole[..whole.len() - 1 - end]).unwrap_err();
    assert_eq!(error.to_string(), "is cut off after line 42");
    let mut longer = whole;
    longer.extend(b"{}\n");
    assert!(load(&longer).is_err());
}

/// What the version before has saved lacks what it did not know.
#[test]
fn a_file_of_version_1_is_read() {
    let text = String::from_utf8(save(&settled().engine)).unwrap();
    let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines[0]["version"] = 1.into();
    let baseline = lines[1]["baseline"].as_object_mut().unwrap();
    for newer in ["failures", "tokens", "dynamics"] {
        assert!(baseline.remove(newer).is_some(), "{newer}");
    }
    let before: String = lines[..2].iter().map(|line| format!("{line}\n")).collect();
    let digest = ring::digest::digest(&ring::digest::SHA256, before.as_bytes());
    lines[2]["sha256"] = hex::encode(digest).into();
    let engine = load(format!("{before}{}\n", lines[2]).as_bytes()).unwrap();
    let baseline = engine.baseline(&PrincipalKey::of(&request()).unwrap()).unwrap();
    assert_eq!(baseline.permits(), 112);
}

#[test]
fn a_newer_or_another_file_is_refused_by_name() {
    let refused = |text: &str| load(text.as_bytes()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        refused("{\"format\":\"picket-risk-baselines\",\"version\":3}\n"),
        "has version 3, and this program reads versions up to 2"
    );
    for other in ["", "\n", "hello\n", "{\"format\":\"x\",\"version\":1}\n", "{}\n"] {
        assert_eq!(refused(other), "holds no risk baselines", "{other}");
    }
    let head = "{\"format\":\"picket-risk-baselines\",\"version\":1}\n";
    let damaged = refused(&format!("{head}{{\"principal\":\"00\",\"baseline\":{{}}}}\n"));
    assert!(damaged.starts_with("is damaged at line 2: "), "{damaged}");
    let long = refused(&format!("{head}{}\n", " ".repeat(70_000)));
    assert!(long.contains("longer than 65536 bytes"), "{long}");
}
