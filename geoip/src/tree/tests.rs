use super::*;

const DATA: usize = 4;

/// Returns a tree whose nodes have these records, in records of so many bits, with its separator and data.
fn encoded(nodes: &[[u32; 2]], record_bits: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for [left, right] in nodes {
        let (l, r) = (left.to_be_bytes(), right.to_be_bytes());
        match record_bits {
            24 => bytes.extend([&l[1..], &r[1..]].concat()),
            28 => bytes.extend([&l[1..], &[l[0] << 4 | r[0]], &r[1..]].concat()),
            _ => bytes.extend([l, r].concat()),
        }
    }
    bytes.extend([0; SEPARATOR + DATA]);
    bytes
}

fn walked(nodes: &[[u32; 2]], record_bits: u16) -> Result<Vec<(u128, usize)>, TreeFault> {
    let bytes = encoded(nodes, record_bits);
    let data = bytes.len() - DATA;
    let nodes = u32::try_from(nodes.len()).unwrap();
    let tree = Tree { bytes: &bytes, nodes, record_bits, address_bits: 32, data_end: bytes.len() };
    Ok(tree.leaves()?.iter().map(|leaf| (leaf.address, leaf.offset - data)).collect())
}

/// Returns the record that leads to a value, in a tree of so many nodes.
fn value(nodes: usize, offset: u32) -> u32 {
    u32::try_from(nodes + SEPARATOR).unwrap() + offset
}

#[test]
fn every_value_is_found_once_with_its_first_address() {
    for bits in [24, 28, 32] {
        let nodes = [[1, value(3, 0)], [value(3, 2), 2], [3, value(3, 0)]];
        assert_eq!(walked(&nodes, bits), Ok(vec![(0, 2), (0x6000_0000, 0)]), "{bits} bits");
    }
}

#[test]
fn the_data_section_is_kept_to() {
    for (record, good) in [
        (value(1, 0), true),
        (value(1, 3), true),
        (value(1, 4), false),
        (1, true), // nothing
        (2, false),
        (value(1, 0) - 1, false),
        (0x00ff_ffff, false),
    ] {
        for nodes in [[[1, record]], [[record, 1]]] {
            let expected = if good { None } else { Some(TreeFault::Outside { offset: 0 }) };
            assert_eq!(walked(&nodes, 24).err(), expected, "{nodes:?}");
        }
    }
}

#[test]
fn circles_are_found() {
    assert_eq!(walked(&[[0, 1]], 24), Err(TreeFault::Cycle { offset: 0 }));
    assert_eq!(walked(&[[3, 1], [2, 3], [3, 1]], 28), Err(TreeFault::Cycle { offset: 14 }));
    assert_eq!(walked(&[[3, 1], [2, 3], [0, 3]], 32), Err(TreeFault::Cycle { offset: 16 }));
}

/// Returns a tree that is one way of so many nodes.
fn way(length: u32) -> Vec<[u32; 2]> {
    (0..length).map(|node| [node + 1, length]).collect()
}

#[test]
fn no_way_is_longer_than_an_address() {
    assert_eq!(walked(&way(32), 24), Ok(vec![]));
    assert_eq!(walked(&way(33), 24), Err(TreeFault::TooDeep { offset: 31 * 6 }));
}

#[test]
fn shared_parts_are_walked_once() {
    // Both records of each node lead to the next: 2^31 ways, in 31 nodes.
    let mut nodes: Vec<[u32; 2]> = (1..32).map(|node| [node, node]).collect();
    nodes.push([value(32, 1); 2]);
    assert_eq!(walked(&nodes, 32), Ok(vec![(0, 1)]));
}

#[test]
fn a_joined_way_counts_whole() {
    // 0 leads to 1 at once, and by way of 2: the way behind 1 is as long as may be only for the first.
    let length = 31;
    let total = length + 2;
    let mut nodes = vec![[1, total - 1]];
    nodes.extend((1..=length).map(|node| [if node == length { total } else { node + 1 }, total]));
    nodes.push([1, total]);
    assert_eq!(walked(&nodes, 24), Err(TreeFault::TooDeep { offset: 32 * 6 }));
    nodes[0] = [1, total];
    assert_eq!(walked(&nodes, 24), Ok(vec![]));
}

#[test]
fn the_end_of_the_tree_is_where_it_is_said() {
    let mut bytes = encoded(&[[1, 1]], 24);
    let tree = |bytes: &[u8], nodes| {
        Tree { bytes, nodes, record_bits: 24, address_bits: 128, data_end: 6 + SEPARATOR + DATA }.leaves()
    };
    assert_eq!(tree(&bytes, 1), Ok(vec![]));
    assert_eq!(tree(&bytes, 5), Err(TreeFault::CutOff { nodes: 5 }));
    assert_eq!(tree(&bytes, u32::MAX), Err(TreeFault::CutOff { nodes: u32::MAX }));
    bytes[21] = 1;
    assert_eq!(tree(&bytes, 1), Err(TreeFault::NoSeparator { offset: 6 }));
}
