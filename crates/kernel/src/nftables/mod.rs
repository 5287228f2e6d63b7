//! What is said to nf_tables, in the words of `linux/netfilter/nf_tables.h`: transactions of tables,
//! chains, sets and rules, and the expressions that rules are made of.

mod rule;

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

pub(crate) use self::rule::Rule;
use crate::netlink::{
    APPEND, Attributes, CREATE, DUMP, Header, Messages, Parsed, Received, Socket, number,
};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
const NEW_OBJECT: u16 = SUBSYSTEM | 18;
const GET_OBJECT: u16 = SUBSYSTEM | 19;
const DELETE_OBJECT: u16 = SUBSYSTEM | 20;

/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;

/// Only its owner, a netlink socket, may change the table (`NFT_TABLE_F_OWNER`).
const TABLE_OWNED: u32 = 0x2;
/// The table stays when its owner goes, and may be owned anew (`NFT_TABLE_F_PERSIST`).
const TABLE_PERSISTS: u32 = 0x4;

const SET_ANONYMOUS: u32 = 0x1;
const SET_CONSTANT: u32 = 0x2;
const SET_MAP: u32 = 0x8;
const SET_TIMEOUT: u32 = 0x10;
/// The type of data that is a verdict (`NFT_DATA_VERDICT`).
const TYPE_VERDICT: u32 = 0xffff_ff00;
/// The types by which nft(8) shows values.
const TYPE_INTEGER: u32 = 4;
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;

const OBJECT_COUNTER: u32 = 1;
const OBJECT_TIMEOUT: u32 = 7;

/// How many elements one message has room for.
const ELEMENTS: usize = 512;

/// TCP in IP's field `protocol` or `next header`.
pub(crate) const TCP: u8 = 6;
/// UDP in the same.
pub(crate) const UDP: u8 = 17;

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// `ip` or `ip6`, as nft(8) has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// The length of an address.
    fn length(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    fn address_type(self) -> u32 {
        match self {
            Self::V4 => TYPE_IPV4,
            Self::V6 => TYPE_IPV6,
        }
    }

    /// Where a packet's source and destination are in its header.
    fn offsets(self) -> (u32, u32) {
        match self {
            Self::V4 => (12, 16),
            Self::V6 => (8, 24),
        }
    }
}

/// Who may change a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The socket that made it, until it is closed: since Linux 6.9. What another program does to all
    /// rules, as `nft flush ruleset`, leaves the table alone.
    Exclusive,
    /// Anybody who may.
    Shared,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Drop,
    Return,
    Goto(String),
}

impl Verdict {
    fn write(&self, a: &mut Attributes<'_>, kind: u16) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Return => (-5_i32 as u32, None),
            Self::Goto(chain) => (-4_i32 as u32, Some(chain)),
        };
        a.nest(kind, |a| {
            a.nest(2, |a| {
                a.number(1, code);
                if let Some(chain) = chain {
                    a.string(2, chain);
                }
            })
        });
    }
}

/// Where and when a chain sees packets (`nf_inet_hooks`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

impl Hook {
    /// Packets that come to this host, before they are routed.
    pub(crate) const PREROUTING: Self = Self { number: 0, priority: -100 };
    /// Packets that this host makes.
    pub(crate) const OUTPUT: Self = Self { number: 3, priority: -100 };
    /// Packets that leave this host.
    pub(crate) const POSTROUTING: Self = Self { number: 4, priority: 100 };
}

/// A register of 4 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Register(u32);

impl Register {
    /// The register with this number, from 0 to 15.
    pub(crate) const fn new(number: u32) -> Self {
        // NFT_REG32_00
        Self(8 + number)
    }

    /// The register so many bytes on.
    fn after(self, bytes: u32) -> Self {
        Self(self.0 + bytes / 4)
    }
}

/// A key of a set or a value of a map: fields, each in as many registers as it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    /// Protocol, address and port.
    pub(crate) fn local(protocol: u8, address: SocketAddr) -> Self {
        let mut fields = Self::default();
        fields.0.extend([protocol, 0, 0, 0]);
        fields.socket(address)
    }

    /// A client and whom it writes to, both addresses and ports.
    pub(crate) fn flow(from: SocketAddr, to: SocketAddr) -> Self {
        Self::default().socket(from).socket(to)
    }

    /// Address and port.
    pub(crate) fn endpoint(address: SocketAddr) -> Self {
        Self::default().socket(address)
    }

    /// A number as the host has it.
    pub(crate) fn index(index: u32) -> Self {
        Self(index.to_ne_bytes().into())
    }

    fn socket(mut self, address: SocketAddr) -> Self {
        match address.ip() {
            IpAddr::V4(ip) => self.0.extend(ip.octets()),
            IpAddr::V6(ip) => self.0.extend(ip.octets()),
        }
        self.0.extend(address.port().to_be_bytes());
        self.0.extend([0; 2]);
        self
    }
}

/// A set or map to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set<'a> {
    pub(crate) name: &'a str,
    /// A number by which messages of the same transaction mean it, where its name isn't known yet.
    pub(crate) id: u32,
    pub(crate) shape: Shape,
}

/// What is in a set or map.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// By protocol, address and port: whether there is one.
    Locals(Family),
    /// By protocol, address and port: a verdict.
    Verdicts(Family),
    /// Flows, each for a while.
    Flows(Family),
    /// By number below a count: an address and port; never changed, and used by one rule.
    Endpoints(Family, u32),
}

impl Shape {
    fn flags(self) -> u32 {
        match self {
            Self::Locals(_) => 0,
            Self::Verdicts(_) => SET_MAP,
            Self::Flows(_) => SET_TIMEOUT,
            Self::Endpoints(..) => SET_MAP | SET_ANONYMOUS | SET_CONSTANT,
        }
    }

    /// Type and length of a key.
    fn key(self) -> (u32, u32) {
        match self {
            Self::Locals(family) | Self::Verdicts(family) => {
                let socket = socket_type(family);
                (TYPE_PROTOCOL << 12 | socket, 8 + family.length())
            }
            Self::Flows(family) => {
                let socket = socket_type(family);
                (socket << 12 | socket, 2 * (4 + family.length()))
            }
            Self::Endpoints(..) => (TYPE_INTEGER, 4),
        }
    }

    /// Type and length of a value, if there are any.
    fn value(self) -> Option<(u32, u32)> {
        match self {
            Self::Locals(_) | Self::Flows(_) => None,
            Self::Verdicts(_) => Some((TYPE_VERDICT, 16)),
            Self::Endpoints(family, _) => Some((socket_type(family), 4 + family.length())),
        }
    }
}

/// The type of an address with its port, as nft(8) joins types: six bits for each.
fn socket_type(family: Family) -> u32 {
    family.address_type() << 6 | TYPE_PORT
}

/// An element of a set or map.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) key: Fields,
    pub(crate) value: Option<Value>,
}

/// What a map has for a key.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Verdict(Verdict),
    Fields(Fields),
}

/// A transaction on one table: all of it or nothing.
#[derive(Debug)]
pub(crate) struct Transaction<'a> {
    table: &'a str,
    messages: Messages,
    empty: bool,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(table: &'a str) -> Self {
        let mut messages = Messages::default();
        messages.add(batch(BATCH_BEGIN), |_| {});
        Self { table, messages, empty: true }
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    /// Has the kernel carry it out.
    ///
    /// # Errors
    /// What is in the way of one of its parts; nothing has changed then.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> io::Result<()> {
        self.messages.add(batch(BATCH_END), |_| {});
        socket.ask(&self.messages, |_| {})
    }

    fn add(&mut self, kind: u16, flags: u16, attributes: impl FnOnce(&mut Attributes<'_>)) {
        self.empty = false;
        // The kernel answers what fails only: it has no room for an answer to each of many messages.
        let header = Header { kind, flags, family: INET, resource: 0 };
        let table = self.table;
        self.messages.add(header, |a| {
            a.string(1, table);
            attributes(a);
        });
    }

    /// Makes the table, or takes it over from an owner that is gone.
    pub(crate) fn new_table(&mut self, ownership: Ownership) {
        let flags = match ownership {
            Ownership::Exclusive => TABLE_OWNED | TABLE_PERSISTS,
            Ownership::Shared => 0,
        };
        self.add(NEW_TABLE, CREATE, |a| a.number(2, flags));
    }

    /// Removes the table with all that is in it.
    pub(crate) fn delete_table(&mut self) {
        self.add(DELETE_TABLE, 0, |_| {});
    }

    /// Makes a chain that others go to.
    pub(crate) fn new_chain(&mut self, name: &str) {
        self.add(NEW_CHAIN, CREATE, |a| a.string(3, name));
    }

    /// Makes a chain that sees the first packet of each flow.
    pub(crate) fn new_nat_chain(&mut self, name: &str, hook: Hook) {
        self.add(NEW_CHAIN, CREATE, |a| {
            a.string(3, name);
            a.nest(4, |a| {
                a.number(1, hook.number);
                a.number(2, hook.priority as u32);
            });
            a.string(7, "nat");
        });
    }

    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.add(DELETE_CHAIN, 0, |a| a.string(3, name));
    }

    /// Removes a chain's rules.
    pub(crate) fn flush_chain(&mut self, name: &str) {
        self.add(DELETE_RULE, 0, |a| a.string(2, name));
    }

    /// Adds a rule behind those of the chain.
    pub(crate) fn new_rule(&mut self, chain: &str, rule: impl FnOnce(&mut Rule<'_, '_>)) {
        self.add(NEW_RULE, CREATE | APPEND, |a| {
            a.string(2, chain);
            a.nest(4, |a| rule(&mut Rule(a)));
        });
    }

    pub(crate) fn new_set(&mut self, set: Set<'_>) {
        self.add(NEW_SET, CREATE, |a| {
            a.string(2, set.name);
            a.number(3, set.shape.flags());
            let (key, length) = set.shape.key();
            a.number(4, key);
            a.number(5, length);
            if let Some((value, length)) = set.shape.value() {
                a.number(6, value);
                a.number(7, length);
            }
            if let Shape::Endpoints(_, count) = set.shape {
                a.nest(9, |a| a.number(1, count));
            }
            a.number(10, set.id);
        });
    }

    /// Adds elements. Those of a set with timeouts stay for so many milliseconds.
    pub(crate) fn new_elements(&mut self, set: Set<'_>, elements: &[Element], stay: Option<u64>) {
        self.elements(NEW_ELEMENT, CREATE, set, elements, stay);
    }

    /// Removes a set's elements.
    pub(crate) fn flush_set(&mut self, set: Set<'_>) {
        self.add(DELETE_ELEMENT, 0, |a| a.string(2, set.name));
    }

    pub(crate) fn delete_elements(&mut self, set: Set<'_>, elements: &[Element]) {
        self.elements(DELETE_ELEMENT, 0, set, elements, None);
    }

    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        set: Set<'_>,
        elements: &[Element],
        stay: Option<u64>,
    ) {
        for some in elements.chunks(ELEMENTS) {
            self.add(kind, flags, |a| {
                a.string(2, set.name);
                a.number(4, set.id);
                a.nest(3, |a| {
                    for element in some {
                        a.nest(1, |a| element.write(a, stay));
                    }
                });
            });
        }
    }

    /// Makes a counter that rules name.
    pub(crate) fn new_counter(&mut self, name: &str) {
        self.new_object(name, OBJECT_COUNTER, |_| {});
    }

    /// Makes the timeouts of UDP flows over a family, in seconds, that rules name.
    pub(crate) fn new_udp_timeout(&mut self, name: &str, family: Family, seconds: u32) {
        self.new_object(name, OBJECT_TIMEOUT, |a| {
            a.bytes(1, &u16::from(family.number()).to_be_bytes());
            a.bytes(2, &[UDP]);
            a.nest(3, |a| {
                // CTA_TIMEOUT_UDP_UNREPLIED and _REPLIED
                a.number(1, seconds);
                a.number(2, seconds);
            });
        });
    }

    fn new_object(&mut self, name: &str, kind: u32, data: impl FnOnce(&mut Attributes<'_>)) {
        self.add(NEW_OBJECT, CREATE, |a| {
            a.string(2, name);
            a.number(3, kind);
            a.nest(4, data);
        });
    }

    pub(crate) fn delete_counter(&mut self, name: &str) {
        self.add(DELETE_OBJECT, 0, |a| {
            a.string(2, name);
            a.number(3, OBJECT_COUNTER);
        });
    }
}

/// What a transaction begins and ends with.
fn batch(kind: u16) -> Header {
    Header { kind, flags: 0, family: 0, resource: SUBSYSTEM >> 8 }
}

impl Element {
    fn write(&self, a: &mut Attributes<'_>, stay: Option<u64>) {
        a.nest(1, |a| a.bytes(1, &self.key.0));
        match &self.value {
            Some(Value::Verdict(verdict)) => verdict.write(a, 2),
            Some(Value::Fields(fields)) => a.nest(2, |a| a.bytes(1, &fields.0)),
            None => {}
        }
        if let Some(milliseconds) = stay {
            a.bytes(4, &milliseconds.to_be_bytes());
        }
    }
}

/// The packets that each counter of a table has seen, by its name.
///
/// # Errors
/// If the kernel can't be asked.
pub(crate) fn counters(
    socket: &mut Socket,
    table: &str,
    mut each: impl FnMut(&str, u64),
) -> io::Result<()> {
    let mut messages = Messages::default();
    let header = Header { kind: GET_OBJECT, flags: DUMP, family: INET, resource: 0 };
    messages.add(header, |a| {
        a.string(1, table);
        a.number(3, OBJECT_COUNTER);
    });
    socket.ask(&messages, |received| {
        if let Some((name, packets)) = counter(received) {
            each(name, packets);
        }
    })
}

fn counter(received: Received<'_>) -> Option<(&str, u64)> {
    let attributes = received.attributes();
    let name = std::str::from_utf8(attributes.get(2)?.strip_suffix(&[0])?).ok()?;
    let data: Parsed<'_> = attributes.nest(4)?;
    Some((name, number(data.get(2)?)?))
}
