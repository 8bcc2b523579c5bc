//! Shapes of rows as paths of a tree: each step is the next attribute's key and type. `stage::table`
//! follows it attribute by attribute.
//!
//! Rows look like those before them. So the step that was taken last from a node is tried first,
//! which costs one comparison of keys; tables are asked when that fails.

use hashbrown::HashTable;

use super::intern::{Index, is_same};
use crate::block::shapes::Lists;
use crate::block::values::{Texts, Type};

/// No node, column or shape.
pub(super) const NONE: u32 = u32::MAX;

/// The node of a row without attributes.
const ROOT: u32 = 0;

/// A tree of so many nodes grows no more: rows that leave it have a shape each. Where rows hardly ever
/// have the same attributes, it would have as many nodes as there are values.
const NODES_MAX: usize = 16_384;

/// A place in the tree: the attributes of a row up to here.
#[derive(Debug, Clone, Copy)]
struct Node {
    parent: u32,
    key: u32,
    /// The type of the attribute's value; that of its column may be another one.
    seen: Type,
    /// The column of the last attribute.
    column: u32,
    /// The node that was gone to last from here.
    guess: u32,
    /// The number of the shape, when a row ended here.
    shape: u32,
}

/// A row on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// [`NONE`] once it has left the tree; then [`Paths::columns_of_row`] has its columns.
    node: u32,
    /// Whether it has left the paths that were known. Then [`Paths::used`] says what keys it has.
    is_new: bool,
}

/// All shapes.
#[derive(Debug)]
pub(super) struct Paths {
    nodes: Vec<Node>,
    /// The nodes but for the root.
    steps: HashTable<u32>,
    keys: Texts,
    key_index: Index,
    /// For each key its columns by type.
    columns: Vec<[u32; TYPES.len()]>,
    /// For each key the number of the last new path that has it.
    used: Vec<u32>,
    new_paths: u32,
    columns_of_row: Vec<u32>,
    /// How many columns there are.
    width: u32,
}

const TYPES: [Type; 6] = [
    Type::Str,
    Type::Int,
    Type::Float,
    Type::Bool,
    Type::Array,
    Type::Other,
];

/// What a step leads to.
pub(super) struct Step {
    pub(super) column: u32,
    /// The type of the column if there was none yet.
    pub(super) opened: Option<Type>,
}

impl Default for Paths {
    fn default() -> Self {
        let root = Node {
            parent: NONE,
            key: NONE,
            seen: Type::Other,
            column: NONE,
            guess: NONE,
            shape: NONE,
        };
        Self {
            nodes: vec![root],
            steps: HashTable::new(),
            keys: Texts::default(),
            key_index: Index::default(),
            columns: Vec::new(),
            used: Vec::new(),
            new_paths: 0,
            columns_of_row: Vec::new(),
            width: 0,
        }
    }
}

impl Paths {
    /// The start of a row.
    pub(super) fn start() -> Row {
        Row {
            node: ROOT,
            is_new: false,
        }
    }

    /// Takes a row on by an attribute. The second and later attribute of one key goes to a column
    /// of type [`Type::Other`].
    #[inline]
    pub(super) fn step(&mut self, row: &mut Row, key: &[u8], seen: Type) -> Step {
        let guess = self.nodes.get(row.node as usize);
        let guess = guess.map_or(NONE, |node| node.guess);
        if let Some(node) = self.nodes.get(guess as usize)
            && node.seen == seen
            && is_same(self.keys.get(node.key as usize), key)
        {
            row.node = guess;
            return Step {
                column: node.column,
                opened: None,
            };
        }
        self.step_elsewhere(row, key, seen)
    }

    fn step_elsewhere(&mut self, row: &mut Row, key: &[u8], seen: Type) -> Step {
        let key = self.key_index.place(&mut self.keys, key);
        if self.columns.len() <= key as usize {
            self.columns.push([NONE; TYPES.len()]);
            self.used.push(0);
        }
        let parent = row.node;
        if parent == NONE {
            let step = self.column(key, seen);
            self.columns_of_row.push(step.column);
            return step;
        }
        let nodes = &mut self.nodes;
        let same = |&at: &u32| {
            let node = nodes[at as usize];
            node.parent == parent && node.key == key && node.seen == seen
        };
        let hash = hash(parent, key, seen);
        if let Some(&at) = self.steps.find(hash, same) {
            nodes[parent as usize].guess = at;
            row.node = at;
            return Step {
                column: nodes[at as usize].column,
                opened: None,
            };
        }
        self.follow_new(row);
        let step = self.column(key, seen);
        if self.nodes.len() >= NODES_MAX {
            self.columns_of_row.clear();
            let path = path(&self.nodes, parent);
            self.columns_of_row.extend(path.map(|node| node.column));
            self.columns_of_row.reverse();
            self.columns_of_row.push(step.column);
            row.node = NONE;
            return step;
        }
        let at = self.nodes.len() as u32;
        self.nodes.push(Node {
            parent,
            key,
            seen,
            column: step.column,
            guess: NONE,
            shape: NONE,
        });
        self.nodes[parent as usize].guess = at;
        let nodes = &self.nodes;
        self.steps.insert_unique(hash, at, |&at| {
            let node = nodes[at as usize];
            self::hash(node.parent, node.key, node.seen)
        });
        row.node = at;
        step
    }

    /// The column of an attribute of a row on a new path.
    fn column(&mut self, key: u32, seen: Type) -> Step {
        let repeated = self.used[key as usize] == self.new_paths;
        self.used[key as usize] = self.new_paths;
        let kind = if repeated { Type::Other } else { seen };
        let column = &mut self.columns[key as usize][kind as usize];
        let opened = (*column == NONE).then_some(kind);
        if opened.is_some() {
            *column = self.width;
            self.width += 1;
        }
        Step {
            column: *column,
            opened,
        }
    }

    /// Notes the keys that a row has when it leaves the paths that were known.
    fn follow_new(&mut self, row: &mut Row) {
        if std::mem::replace(&mut row.is_new, true) {
            return;
        }
        self.new_paths += 1;
        for node in path(&self.nodes, row.node) {
            self.used[node.key as usize] = self.new_paths;
        }
    }

    /// The number of the shape of a row that is complete. One that no row had before is added to
    /// `shapes`, the columns of all shapes.
    #[inline]
    pub(super) fn end(&mut self, row: Row, shapes: &mut Lists) -> u32 {
        let Some(node) = self.nodes.get_mut(row.node as usize) else {
            shapes.push(self.columns_of_row.drain(..));
            return shapes.len() as u32 - 1;
        };
        if node.shape == NONE {
            node.shape = shapes.len() as u32;
            let path = path(&self.nodes, row.node);
            let mut columns: Vec<u32> = path.map(|node| node.column).collect();
            columns.reverse();
            shapes.push(columns);
        }
        self.nodes[row.node as usize].shape
    }

    /// Bytes that the tree takes, about.
    pub(super) fn bytes(&self) -> u64 {
        let node = size_of::<Node>() + 2 * size_of::<u32>();
        let key = size_of::<[u32; TYPES.len()]>() + 5 * size_of::<u32>();
        (self.nodes.len() * node + self.columns.len() * key + self.keys.bytes_len()) as u64
    }
}

/// The nodes from one up to the root, without it.
fn path(nodes: &[Node], mut at: u32) -> impl Iterator<Item = Node> {
    std::iter::from_fn(move || {
        let node = nodes[at as usize];
        at = node.parent;
        (at != NONE).then_some(node)
    })
}

fn hash(parent: u32, key: u32, seen: Type) -> u64 {
    let pair = u64::from(parent) << 32 | u64::from(key);
    let mixed = (pair ^ (seen as u64) << 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}
