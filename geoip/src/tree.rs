//! The search tree of an mmdb file: verifies that every look-up ends, and finds the values.

use thiserror::Error;

/// The search tree of a file whose metadata is known: nodes of two records each, which lead to
/// another node, to nothing, or into the data section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tree<'a> {
    /// The file, which begins with the tree.
    pub(crate) bytes: &'a [u8],
    pub(crate) nodes: u32,
    /// The size of each record: 24, 28 or 32.
    pub(crate) record_bits: u16,
    /// The size of the addresses that are looked up: 32 or 128.
    pub(crate) address_bits: u8,
    /// Where the data section ends.
    pub(crate) data_end: usize,
}

/// One value of the data section that some address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// The first address of a network that has the value, in the lowest bits.
    pub(crate) address: u128,
    /// Where the value is, from the file's beginning.
    pub(crate) offset: usize,
}

/// What is wrong with a search tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TreeFault {
    /// The tree or the zeros behind it are cut off.
    #[error("the search tree of {nodes} nodes ends beyond the file")]
    CutOff {
        /// The number in the metadata.
        nodes: u32,
    },
    /// The nodes are fewer, more or of another size than the metadata says.
    #[error(
        "at offset {offset}: the 16 bytes behind the search tree are not zero, so its end is not where the metadata says"
    )]
    NoSeparator {
        /// From the file's beginning.
        offset: usize,
    },
    /// A node is its own ancestor.
    #[error("at offset {offset}: the search tree leads back to a node on its own path")]
    Cycle {
        /// The offset of the node that leads back.
        offset: usize,
    },
    /// A path through the tree has more nodes than an address has bits.
    #[error("at offset {offset}: the search tree goes on after an address's last bit")]
    TooDeep {
        /// The offset of the node that is too deep.
        offset: usize,
    },
    /// A record leads to no place in the data section.
    #[error("at offset {offset}: the search tree leads beyond the data section, or before it")]
    Outside {
        /// The offset of the node that holds the record.
        offset: usize,
    },
}

impl<'a> Tree<'a> {
    /// Walks every node that a look-up can reach, once, and returns every value that a look-up can
    /// lead to, each once.
    ///
    /// Takes time and memory in proportion to the nodes and to the data section, whatever is in them,
    /// and no stack. Parts that several paths share are no fault: look-ups walk them in as many steps.
    ///
    /// # Errors
    /// When a look-up could loop, or leave the address's bits or the file.
    pub(crate) fn leaves(&self) -> Result<Vec<Leaf>, TreeFault> {
        let cut_off = TreeFault::CutOff { nodes: self.nodes };
        let end = (self.nodes as usize).checked_mul(self.node_size()).ok_or(cut_off)?;
        let data = end.checked_add(SEPARATOR).filter(|data| *data <= self.data_end).ok_or(cut_off)?;
        if self.bytes.get(end..data).ok_or(cut_off)?.iter().any(|byte| *byte != 0) {
            return Err(TreeFault::NoSeparator { offset: end });
        }

        let mut heights = vec![UNSEEN; self.nodes as usize];
        set(&mut heights, 0, ON_THE_WAY);
        let mut seen = vec![0_u64; (self.data_end - data).div_ceil(64)];
        let mut leaves = Vec::new();
        let mut way = vec![Step { node: 0, address: 0, done: 0, height: 0 }];
        while let Some(step) = way.last().copied() {
            let depth = way.len();
            if step.done == 2 {
                way.pop();
                set(&mut heights, step.node, step.height + 1);
                raise(&mut way, step.height + 1);
                continue;
            }
            if let Some(step) = way.last_mut() {
                step.done += 1;
            }
            let offset = self.offset(step.node);
            let record = self.record(step.node, step.done).ok_or(cut_off)?;
            let bit = u128::from(step.done) << (usize::from(self.address_bits) - depth);
            let address = step.address | bit;
            if record < self.nodes {
                match heights.get(record as usize).copied().unwrap_or(UNSEEN) {
                    ON_THE_WAY => return Err(TreeFault::Cycle { offset }),
                    UNSEEN if depth == usize::from(self.address_bits) => return Err(TreeFault::TooDeep { offset }),
                    UNSEEN => {
                        set(&mut heights, record, ON_THE_WAY);
                        way.push(Step { node: record, address, done: 0, height: 0 });
                    }
                    height if depth + usize::from(height) > usize::from(self.address_bits) => {
                        return Err(TreeFault::TooDeep { offset });
                    }
                    height => raise(&mut way, height),
                }
            } else if record > self.nodes {
                let value = (record - self.nodes) as usize;
                let value = value.checked_sub(SEPARATOR).filter(|value| *value < self.data_end - data);
                let value = value.ok_or(TreeFault::Outside { offset })?;
                if first_time(&mut seen, value) {
                    leaves.push(Leaf { address, offset: data + value });
                }
            }
        }
        Ok(leaves)
    }

    fn node_size(&self) -> usize {
        usize::from(self.record_bits) / 4
    }

    fn offset(&self, node: u32) -> usize {
        node as usize * self.node_size()
    }

    /// Returns one of a node's two records.
    fn record(&self, node: u32, side: u8) -> Option<u32> {
        let start = self.offset(node);
        let node = self.bytes.get(start..start + self.node_size())?;
        Some(match (node, side) {
            (&[a, b, c, _, _, _], 0) => u32::from_be_bytes([0, a, b, c]),
            (&[_, _, _, a, b, c], _) => u32::from_be_bytes([0, a, b, c]),
            // The byte in the middle has the highest four bits of both.
            (&[a, b, c, high, _, _, _], 0) => u32::from_be_bytes([high >> 4, a, b, c]),
            (&[_, _, _, high, a, b, c], _) => u32::from_be_bytes([high & 0x0f, a, b, c]),
            (&[a, b, c, d, _, _, _, _], 0) => u32::from_be_bytes([a, b, c, d]),
            (&[_, _, _, _, a, b, c, d], _) => u32::from_be_bytes([a, b, c, d]),
            _ => return None,
        })
    }
}

/// A node on the path from the root to the walk's position.
#[derive(Debug, Clone, Copy)]
struct Step {
    node: u32,
    address: u128,
    /// How many of the node's records were followed.
    done: u8,
    /// How many nodes the longest known path below the node has.
    height: u8,
}

/// Raises the height of the last step to `height` at least.
fn raise(way: &mut [Step], height: u8) {
    if let Some(step) = way.last_mut() {
        step.height = step.height.max(height);
    }
}

fn set(heights: &mut [u8], node: u32, height: u8) {
    if let Some(slot) = heights.get_mut(node as usize) {
        *slot = height;
    }
}

/// Sets a bit; returns whether it was not set before.
fn first_time(seen: &mut [u64], bit: usize) -> bool {
    let Some(word) = seen.get_mut(bit / 64) else { return false };
    let mask = 1 << (bit % 64);
    let first = *word & mask == 0;
    *word |= mask;
    first
}

/// The length of the zeros between the tree and the data section, in bytes.
const SEPARATOR: usize = 16;

/// Heights of nodes that no path has reached yet, and of those on the current path. A real height is 1 to 128.
const UNSEEN: u8 = 0;
const ON_THE_WAY: u8 = u8::MAX;

#[cfg(test)]
mod tests;
