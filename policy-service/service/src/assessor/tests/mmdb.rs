//! Writes databases in MaxMind's format, as little of it as the tests read
//! (<https://maxmind.github.io/MaxMind-DB/>).

use std::net::IpAddr;

use serde_json::{Value, json};

const SEPARATOR_BYTES: u32 = 16;

/// What a node's side leads to.
#[derive(Clone, Copy)]
enum Side {
    Nothing,
    Node(u32),
    Data(u32),
}

/// A database with these networks, of which none is in another; IPv4 is under `::/96`.
pub(super) fn database(kind: &str, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Side::Nothing; 2]];
    let mut data = Vec::new();
    for (network, value) in networks {
        let (address, bits) = network.split_once('/').unwrap();
        let bits: u32 = bits.parse().unwrap();
        let (address, bits) = match address.parse().unwrap() {
            IpAddr::V4(address) => (u128::from(u32::from(address)), bits + 96),
            IpAddr::V6(address) => (u128::from(address), bits),
        };
        let at = u32::try_from(data.len()).unwrap();
        encode(value, &mut data);
        insert(&mut nodes, address, bits, at);
    }
    let mut bytes = tree(&nodes);
    bytes.extend([0; SEPARATOR_BYTES as usize]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    metadata(kind, nodes.len(), &mut bytes);
    bytes
}

fn metadata(kind: &str, nodes: usize, bytes: &mut Vec<u8>) {
    // 5 is a number of 16 bits, 9 one of 64.
    let numbers = [
        ("node_count", 6, u64::try_from(nodes).unwrap()),
        ("record_size", 5, 32),
        ("ip_version", 5, 6),
        ("binary_format_major_version", 5, 2),
        ("binary_format_minor_version", 5, 0),
        ("build_epoch", 9, 1_700_000_000),
    ];
    let others = [
        ("database_type", json!(kind)),
        ("languages", json!([])),
        ("description", json!({})),
    ];
    control(7, numbers.len() + others.len(), bytes);
    for (key, kind, number) in numbers {
        encode(&json!(key), bytes);
        // As few bytes as it has.
        let number: Vec<u8> = number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        control(kind, number.len(), bytes);
        bytes.extend(number);
    }
    for (key, value) in others {
        encode(&json!(key), bytes);
        encode(&value, bytes);
    }
}

fn insert(nodes: &mut Vec<[Side; 2]>, address: u128, bits: u32, at: u32) {
    let mut node = 0;
    for depth in 0..bits {
        let side = usize::from((address >> (127 - depth)) & 1 == 1);
        if depth + 1 == bits {
            nodes[node][side] = Side::Data(at);
            return;
        }
        node = match nodes[node][side] {
            Side::Node(next) => usize::try_from(next).unwrap(),
            Side::Nothing | Side::Data(_) => {
                nodes.push([Side::Nothing; 2]);
                nodes[node][side] = Side::Node(u32::try_from(nodes.len() - 1).unwrap());
                nodes.len() - 1
            }
        };
    }
}

/// Two records of 32 bits for each node: another node, nothing (the number of nodes), or beyond
/// that data.
fn tree(nodes: &[[Side; 2]]) -> Vec<u8> {
    let count = u32::try_from(nodes.len()).unwrap();
    let record = |side: &Side| match side {
        Side::Nothing => count,
        Side::Node(node) => *node,
        Side::Data(at) => count + SEPARATOR_BYTES + at,
    };
    nodes
        .iter()
        .flatten()
        .flat_map(|side| record(side).to_be_bytes())
        .collect()
}

/// Types: 2 text, 3 double, 6 a number of 32 bits, 7 map, 11 array.
fn encode(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::String(text) => {
            control(2, text.len(), bytes);
            bytes.extend(text.as_bytes());
        }
        Value::Number(number) if number.is_f64() => {
            control(3, 8, bytes);
            bytes.extend(number.as_f64().unwrap().to_be_bytes());
        }
        Value::Number(number) => {
            control(6, 4, bytes);
            bytes.extend(u32::try_from(number.as_u64().unwrap()).unwrap().to_be_bytes());
        }
        Value::Object(map) => {
            control(7, map.len(), bytes);
            for (key, value) in map {
                encode(&json!(key), bytes);
                encode(value, bytes);
            }
        }
        Value::Array(values) => {
            control(11, values.len(), bytes);
            values.iter().for_each(|value| encode(value, bytes));
        }
        Value::Null | Value::Bool(_) => panic!("not written"),
    }
}

/// Types above 7 take a byte of their own, and lengths from 29 another one.
fn control(kind: u8, length: usize, bytes: &mut Vec<u8>) {
    let (first, second) = if kind > 7 {
        (0, Some(kind - 7))
    } else {
        (kind << 5, None)
    };
    let length = u8::try_from(length).unwrap();
    bytes.push(first | length.min(29));
    bytes.extend(second);
    bytes.extend((length >= 29).then(|| length - 29));
}
