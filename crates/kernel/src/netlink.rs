//! Netlink (netlink(7)): messages with attributes, and the sockets that carry them.

use std::{io, mem::size_of, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname, netlink,
        recv, send, socket_with,
        sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force},
    },
};

/// The message is a request (`NLM_F_REQUEST`).
pub(crate) const REQUEST: u16 = 0x1;
/// All there is (`NLM_F_DUMP`).
pub(crate) const DUMP: u16 = 0x300;
/// To be made if it isn't there (`NLM_F_CREATE`).
pub(crate) const CREATE: u16 = 0x400;
/// Behind those there are (`NLM_F_APPEND`).
pub(crate) const APPEND: u16 = 0x800;

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The attribute has attributes of its own.
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// The largest error that the kernel has (`MAX_ERRNO`).
const MOST_ERRNO: i32 = 4095;

const MESSAGE_HEADER: usize = 16;
/// What every message of netfilter begins with: family, version, resource (`struct nfgenmsg`).
const NETFILTER_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;

/// How much is read at a time: as much as the kernel puts into one part of a dump.
const READ: usize = 64 << 10;
/// How much the kernel keeps for a socket that has events, in bytes.
const EVENTS_KEPT: usize = 16 << 20;

/// Messages to be sent together.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    count: u32,
    last: usize,
}

/// What a message of netfilter is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// The subsystem and what to do.
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    /// An address family; what it means is the subsystem's.
    pub(crate) family: u8,
    pub(crate) resource: u16,
}

impl Messages {
    /// Adds a message.
    pub(crate) fn add(&mut self, header: Header, attributes: impl FnOnce(&mut Attributes<'_>)) {
        self.last = self.bytes.len();
        self.count += 1;
        let Header { kind, flags, family, resource } = header;
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        attributes(&mut Attributes(&mut self.bytes));
        let length = (self.bytes.len() - self.last) as u32;
        self.bytes[self.last..][..4].copy_from_slice(&length.to_ne_bytes());
    }

    /// The messages as they would be sent.
    #[cfg(test)]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The attributes of a message, or of another attribute, being written.
pub(crate) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |bytes| bytes.extend(value));
    }

    /// A string, which ends with a zero.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |bytes| {
            bytes.extend(value.as_bytes());
            bytes.push(0);
        });
    }

    /// A number in network byte order, as netfilter has them.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Attributes<'_>)) {
        self.attribute(kind | NESTED, |bytes| inner(&mut Attributes(bytes)));
    }

    fn attribute(&mut self, kind: u16, value: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        value(self.0);
        let length = self.0.len() - start;
        let stated = u16::try_from(length).expect("an attribute is written in pieces that fit");
        self.0[start..][..2].copy_from_slice(&stated.to_ne_bytes());
        self.0.resize(start + length.next_multiple_of(4), 0);
    }
}

/// A message that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// The subsystem and what it tells.
    pub(crate) kind: u16,
    payload: &'a [u8],
}

impl<'a> Received<'a> {
    pub(crate) fn attributes(self) -> Parsed<'a> {
        Parsed(self.payload.get(NETFILTER_HEADER..).unwrap_or_default())
    }

    /// The error that a message tells of, if it is about one; that there is none, too.
    pub(crate) fn error(self) -> Option<Result<(), Errno>> {
        let code = self.payload.get(..4).filter(|_| self.kind == ERROR || self.kind == DONE)?;
        let code = i32::from_ne_bytes(code.try_into().ok()?);
        let number = code.checked_neg().filter(|number| (1..=MOST_ERRNO).contains(number));
        Some(match (code, number) {
            (0, _) => Ok(()),
            (_, Some(number)) => Err(Errno::from_raw_os_error(number)),
            (_, None) => Err(Errno::PROTO),
        })
    }
}

/// Attributes that came: kinds and values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed<'a>(&'a [u8]);

impl<'a> Parsed<'a> {
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// The attribute's own attributes.
    pub(crate) fn nest(self, kind: u16) -> Option<Self> {
        self.get(kind).map(Self)
    }
}

impl<'a> Iterator for Parsed<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let number = |at: usize| Some(u16::from_ne_bytes(self.0.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(number(0)?), number(2)?);
        let value = self.0.get(ATTRIBUTE_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    }
}

/// A number in network byte order of 2, 4 or 8 bytes.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= size_of::<u64>())
        .then(|| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A netlink socket to netfilter, which doesn't block.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket that gets the events of these groups, as a mask.
    ///
    /// # Errors
    /// If the kernel has no netfilter, or events are not for this process.
    pub(crate) fn open(groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::NETFILTER);
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        bind(&fd, &netlink::SocketAddrNetlink::new(0, groups))?;
        if groups != 0 {
            set_socket_recv_buffer_size_force(&fd, EVENTS_KEPT)?;
        }
        Ok(Self { fd, buffer: vec![0; READ] })
    }

    /// Gets the events of these groups, and of no others, from now on.
    ///
    /// # Errors
    /// If events are not for this process.
    pub(crate) fn subscribe(&self, groups: u32) -> io::Result<()> {
        let own = netlink::SocketAddrNetlink::try_from(getsockname(&self.fd)?)?;
        Ok(bind(&self.fd, &netlink::SocketAddrNetlink::new(own.pid(), groups))?)
    }

    /// Sends messages, and hands what the kernel answers to `each`. It answers before the system call
    /// is over, but for dumps, of which each part is asked for by reading the one before.
    ///
    /// # Errors
    /// The first error that the kernel answers.
    pub(crate) fn ask(
        &mut self,
        messages: &Messages,
        mut each: impl FnMut(Received<'_>),
    ) -> io::Result<()> {
        let length = messages.bytes.len();
        if length > READ {
            set_socket_send_buffer_size_force(&self.fd, length * 2)?;
        }
        send(&self.fd, &messages.bytes, SendFlags::empty())?;
        let mut result = Ok(());
        while self.receive(&mut |received| match received.error() {
            Some(Err(error)) if result.is_ok() => result = Err(error.into()),
            Some(_) => {}
            None => each(received),
        })? {}
        result
    }

    /// Hands the messages that have come to `each`, those of one read at a time. Whether there were
    /// any.
    ///
    /// # Errors
    /// [`Errno::NOBUFS`] if events were lost.
    pub(crate) fn receive(&mut self, each: &mut impl FnMut(Received<'_>)) -> io::Result<bool> {
        let length = match recv(&self.fd, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let mut rest = &self.buffer[..length];
        while let Some((received, after)) = split(rest) {
            each(received);
            rest = after;
        }
        Ok(true)
    }
}

/// The first of several messages, and those behind it.
pub(crate) fn split(bytes: &[u8]) -> Option<(Received<'_>, &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(MESSAGE_HEADER..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Received { kind, payload }, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: Header = Header { kind: 0x0a03, flags: CREATE, family: 2, resource: 7 };

    #[test]
    fn what_is_written_is_read() {
        let mut messages = Messages::default();
        messages.add(HEADER, |a| {
            a.string(1, "abc");
            a.nest(2, |a| a.number(3, 0x0102_0304));
        });
        messages.add(HEADER, |_| {});
        let (first, rest) = split(&messages.bytes).unwrap();
        assert_eq!(first.kind, HEADER.kind);
        let attributes = first.attributes();
        assert_eq!(attributes.get(1), Some(&b"abc\0"[..]));
        let inner = attributes.nest(2).unwrap().get(3).unwrap();
        assert_eq!(number(inner), Some(0x0102_0304));
        let (second, rest) = split(rest).unwrap();
        assert_eq!(second.attributes().count(), 0);
        assert!(rest.is_empty());
    }

    #[test]
    fn a_number_that_is_no_error_is_told_as_one_of_the_protocol() {
        for (code, error) in
            [(0, Ok(())), (-2, Err(Errno::NOENT)), (-4095, Err(Errno::from_raw_os_error(4095)))]
                .into_iter()
                .chain([5, -4096, i32::MIN].map(|code| (code, Err(Errno::PROTO))))
        {
            let payload = code.to_ne_bytes();
            let received = Received { kind: DONE, payload: &payload };
            assert_eq!(received.error(), Some(error), "{code}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some((received, _)) = split(&bytes) {
                let _ = received.error();
                let _ = received.attributes().count();
            }
            let _ = Parsed(&bytes).count();
        }
    }
}
