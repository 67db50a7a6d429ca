use proptest::prelude::{any, prop_assert_eq, proptest};

use super::*;

pub(super) fn lists(text: &str) -> ThreatLists {
    ThreatLists(vec![list("bad", text)])
}

fn list(name: &str, text: &str) -> ThreatList {
    ThreatList {
        name: name.into(),
        source: "bad.netset".into(),
        changed_at: Timestamp::from_ms(START_S * 1000),
        networks: Networks::parse(text).unwrap(),
    }
}

#[track_caller]
fn check(text: &str, found: &[(&str, &str)], free: &[&str]) {
    let networks = Networks::parse(text).unwrap();
    for (address, expected) in found {
        let (first, bits) = networks.smallest_around(address.parse().unwrap()).unwrap();
        assert_eq!(format!("{first}/{bits}"), *expected, "{address}");
    }
    for address in free {
        assert_eq!(networks.smallest_around(address.parse().unwrap()), None, "{address}");
    }
}

#[test]
fn the_smallest_network_around_an_address_is_found() {
    check(
        "# a list\n10.0.0.0/8\n\n10.1.0.0/16 # inner\n 10.1.2.3 \n192.0.2.0/24\n2001:db8::/32\n2001:db8:1::/48\r\n",
        &[
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.4", "10.1.0.0/16"),
            ("10.2.0.0", "10.0.0.0/8"),
            ("10.255.255.255", "10.0.0.0/8"),
            ("::ffff:192.0.2.255", "192.0.2.0/24"),
            ("2001:db8:1:ffff::", "2001:db8:1::/48"),
            ("2001:db8:ffff::", "2001:db8::/32"),
        ],
        &["9.255.255.255", "11.0.0.0", "192.0.3.0", "2001:db9::", "::10.1.2.3"],
    );
    check("0.0.0.0/0", &[("255.255.255.255", "0.0.0.0/0")], &["::"]);
    check("::/0", &[("ffff::", "::/0"), ("::", "::/0")], &["10.0.0.1"]);
    check("# nothing yet", &[], &["10.0.0.1", "::1"]);
}

#[test]
fn bad_lines_are_named_by_number() {
    let bad = Networks::parse("10.0.0.0/8\nexample.org\n# fine\n10.0.0.1/8\n10.0.0.0/33\n").unwrap_err();
    let lines: Vec<String> = bad.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 3);
    for (line, expected) in lines.iter().zip([
        "line 2: `example.org`: expected a network such as",
        "line 4: `10.0.0.1/8`: expected no address bits behind the prefix",
        "line 5: `10.0.0.0/33`: expected a network such as",
    ]) {
        assert!(line.starts_with(expected), "{line}");
    }
    let many = "x\n".repeat(1000);
    assert_eq!(Networks::parse(&many).unwrap_err().len(), 20);
    for empty in ["", "\n \n"] {
        assert_eq!(Networks::parse(empty).unwrap_err()[0].problem, "the file is empty");
    }
}

#[test]
fn of_several_lists_the_smallest_network_is_told_and_of_equals_the_first() {
    let lists = ThreatLists(vec![
        list("wide", "192.0.2.0/24"),
        list("narrow", "192.0.2.128/25"),
        list("same", "192.0.2.128/25"),
    ]);
    let told = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        let now_s = u32::try_from(START_S).unwrap() + 90;
        lists.find(address).map(|listing| listing.explanation(now_s))
    };
    let narrow = "192.0.2.128/25 is in the threat list `narrow`, which is 90 s old";
    assert_eq!(told("192.0.2.200").as_deref(), Some(narrow));
    let wide = "192.0.2.0/24 is in the threat list `wide`, which is 90 s old";
    assert_eq!(told("192.0.2.1").as_deref(), Some(wide));
    assert_eq!(told("192.0.3.1"), None);
}

proptest! {
    /// The table against a look at every network.
    #[test]
    fn finds_what_a_look_at_every_network_finds(
        networks in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..60),
        address in any::<u32>(),
        near in any::<proptest::sample::Index>(),
    ) {
        let networks: Vec<(u32, u8)> = networks
            .into_iter()
            // Nested ones among them.
            .map(|(address, bits)| (address & 0xC3FF_00FF, bits))
            .map(|(address, bits)| (address & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0), bits))
            .collect();
        let text: String = networks
            .iter()
            .map(|(address, bits)| format!("{}/{bits}\n", std::net::Ipv4Addr::from(*address)))
            .collect();
        let parsed = Networks::parse(&format!("#\n{text}")).unwrap();
        let mut asked = vec![address];
        if !networks.is_empty() {
            asked.push(networks[near.index(networks.len())].0 | (address & 0xFF));
        }
        for address in asked {
            let holds = |(first, bits): &&(u32, u8)| {
                address & u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0) == *first
            };
            let expected = networks.iter().filter(holds).map(|(_, bits)| *bits).max();
            let found = parsed.smallest_around(IpAddr::V4(address.into())).map(|(_, bits)| bits);
            prop_assert_eq!(found, expected);
        }
    }
}
