//! Datagrams in batches: recvmmsg(2) and sendmmsg(2) with the control messages that carry local
//! addresses (ip(7), ipv6(7)) and segment sizes (udp(7)). The only `unsafe` code for UDP.

use std::{
    io::{self, IoSlice},
    mem::{MaybeUninit, size_of, size_of_val},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use rustix::io::Errno;

use super::{send::Run, train::Train};

/// How many messages one call receives or sends.
pub(super) const BATCH: usize = 32;

/// The longest message, be it one datagram or several that the kernel has joined. A UDP payload
/// over IPv4 is 65,507 bytes at most, over IPv6 65,527.
const MESSAGE: usize = 65_536;

/// Five cache lines more than a message, so that the beginnings of all messages, mostly short ones,
/// don't compete for the same few sets of the processor's caches.
const STRIDE: usize = MESSAGE + 5 * 64;

/// Room for the control messages of one datagram: a packet info and a segment size.
const CONTROL: usize = 64;

// SAFETY: CMSG_SPACE only computes.
const _: () = assert!(
    unsafe {
        libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32)
            + libc::CMSG_SPACE(size_of::<libc::c_int>() as u32)
    } <= CONTROL as u32
);

/// A buffer for control messages, aligned as `cmsghdr` wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// What one receive call brought.
#[derive(Debug)]
pub(super) struct Inbox {
    /// `BATCH` messages, `STRIDE` bytes apart.
    buffers: Vec<u8>,
    headers: Headers,
    messages: Vec<Received>,
}

/// `BATCH` headers for recvmmsg(2), made once, for most calls bring a single message.
struct Headers {
    headers: Vec<libc::mmsghdr>,
    /// What the headers point to, beside the buffers of an [`Inbox`]; none of it ever moves.
    _names: Vec<libc::sockaddr_storage>,
    _controls: Vec<Control>,
    _parts: Vec<libc::iovec>,
}

#[derive(Debug)]
struct Received {
    length: usize,
    segment: usize,
    peer: Option<SocketAddr>,
    local: Option<IpAddr>,
}

/// A datagram, or several of one sender that the kernel has joined.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    /// The payload, or the payloads end to end.
    pub(super) bytes: &'a [u8],
    /// The length of each datagram but the last, which may be shorter; 0 if it is a single one.
    pub(super) segment: usize,
    /// Who sent it; unknown on a connected socket.
    pub(super) peer: Option<SocketAddr>,
    /// The address it was sent to, where [`receive_local_addresses`] is on.
    pub(super) local: Option<IpAddr>,
}

impl<'a> Message<'a> {
    /// One datagram.
    pub(super) fn single(bytes: &'a [u8]) -> Self {
        Self { bytes, segment: 0, peer: None, local: None }
    }

    /// Its datagrams, each as a message.
    pub(super) fn split(&self) -> impl Iterator<Item = Self> {
        let length = if self.segment == 0 { usize::MAX } else { self.segment };
        let empty = self.bytes.is_empty().then(|| Self::single(&[]));
        self.bytes.chunks(length).map(Self::single).chain(empty)
    }

    /// How many datagrams it is. An empty one is one, too.
    pub(super) fn datagrams(&self) -> u64 {
        if self.segment == 0 { 1 } else { self.bytes.len().div_ceil(self.segment).max(1) as u64 }
    }
}

impl Headers {
    /// For messages in these buffers, which may not move nor be dropped before.
    fn new(buffers: &mut [u8]) -> Self {
        // SAFETY: all zeroes are a valid address of no family.
        let name: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut names = vec![name; BATCH];
        let mut controls = vec![Control([0; CONTROL]); BATCH];
        let part = |buffer: &mut [u8]| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: MESSAGE,
        };
        let mut parts: Vec<_> = buffers.chunks_exact_mut(STRIDE).map(part).collect();
        let targets = names.iter_mut().zip(&mut controls).zip(&mut parts);
        let headers = targets.map(|((name, control), part)| {
            header(
                (ptr::from_mut(name).cast(), size_of_val(name)),
                (part, 1),
                (control.0.as_mut_ptr().cast(), CONTROL),
            )
        });
        let headers = headers.collect();
        Self { headers, _names: names, _controls: controls, _parts: parts }
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Headers").finish_non_exhaustive()
    }
}

impl Inbox {
    pub(super) fn new() -> Self {
        // The kernel hands out zeroed pages once they are used, which those far into a buffer
        // rarely are.
        let mut buffers = vec![0; BATCH * STRIDE];
        let headers = Headers::new(&mut buffers);
        Self { buffers, headers, messages: Vec::with_capacity(BATCH) }
    }

    /// How many messages the last [`receive`](Self::receive) brought.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there may be more to receive.
    pub(super) fn is_full(&self) -> bool {
        self.len() == BATCH
    }

    /// One of them.
    pub(super) fn message(&self, index: usize) -> Message<'_> {
        let received = &self.messages[index];
        let start = index * STRIDE;
        Message {
            bytes: &self.buffers[start..start + received.length],
            segment: received.segment,
            peer: received.peer,
            local: received.local,
        }
    }

    /// How many datagrams a run of messages is.
    pub(super) fn datagrams(&self, run: Run) -> u64 {
        run.indices().map(|index| self.message(index).datagrams()).sum()
    }

    /// Receives up to [`BATCH`] messages without waiting.
    ///
    /// # Errors
    /// Those of recvmmsg(2). Whatever an ICMP message told a connected socket comes as one, too;
    /// then there are no messages.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        self.messages.clear();
        let headers = &mut self.headers.headers;
        // SAFETY: each header points to a name, a buffer and a control buffer of its own, as long as
        // it says; they belong to `self`, stay where they are, and nobody else has a reference to
        // them now.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as u32,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| last_error())?;
        self.messages.extend(headers[..count].iter_mut().map(|header| {
            // SAFETY: the kernel has filled in this header, its name and its control messages.
            let received = unsafe { received(header) };
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = CONTROL;
            received
        }));
        Ok(())
    }
}

/// Reads a header that recvmmsg has filled in.
///
/// # Safety
/// The header's name and control buffer must be as the kernel left them.
unsafe fn received(header: &libc::mmsghdr) -> Received {
    let length = (header.msg_len as usize).min(MESSAGE);
    let message = &header.msg_hdr;
    let mut received = Received { length, segment: 0, peer: None, local: None };
    if message.msg_namelen > 0 {
        // SAFETY: a name of this length was written.
        received.peer = unsafe { socket_address(message.msg_name.cast()) };
    }
    // SAFETY: the control buffer holds `msg_controllen` bytes of control messages; CMSG_FIRSTHDR and
    // CMSG_NXTHDR stay inside it, and each kind of data is read as what ip(7), ipv6(7) and udp(7)
    // say it is, unaligned.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(message);
        while let Some(head) = control.as_ref() {
            let data = libc::CMSG_DATA(control);
            match (head.cmsg_level, head.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                    // Not `ipi_addr`, from which nobody can reply if it is a broadcast address.
                    let address = u32::from_be(info.ipi_spec_dst.s_addr);
                    received.local = Some(Ipv4Addr::from_bits(address).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    received.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let segment = data.cast::<libc::c_int>().read_unaligned();
                    received.segment = usize::try_from(segment).unwrap_or(0);
                }
                _ => {}
            }
            control = libc::CMSG_NXTHDR(message, control);
        }
    }
    received
}

/// Reads an IPv4 or IPv6 address.
///
/// # Safety
/// `name` must point to an address of the family that it names.
unsafe fn socket_address(name: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: every address begins with its family, and is then as long as that says.
    unsafe {
        match i32::from((*name).sa_family) {
            libc::AF_INET => {
                let name = name.cast::<libc::sockaddr_in>().read_unaligned();
                let ip = Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
            }
            libc::AF_INET6 => {
                let name = name.cast::<libc::sockaddr_in6>().read_unaligned();
                let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
                let port = u16::from_be(name.sin6_port);
                Some(SocketAddrV6::new(ip, port, name.sin6_flowinfo, name.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// Where replies go, and from which of the socket's addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    /// The receiver.
    pub(super) to: SocketAddr,
    /// The sender's address, if the socket has several.
    pub(super) from: Option<IpAddr>,
}

/// Sends up to [`BATCH`] trains without waiting: to `destination`, or to the peer of a connected
/// socket. Returns how many were sent.
///
/// # Errors
/// Those of sendmmsg(2) for the first train; then none was sent.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    destination: Option<&Destination>,
    parts: &[IoSlice<'_>],
    trains: &[Train],
) -> Result<usize, Errno> {
    let trains = &trains[..trains.len().min(BATCH)];
    let name = destination.map(|destination| socket2::SockAddr::from(destination.to));
    let name = name.as_ref().map_or((ptr::null_mut(), 0), |name| {
        (name.as_ptr().cast_mut().cast(), name.len() as usize)
    });
    let from = destination.and_then(|destination| destination.from);
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    for ((train, control), slot) in trains.iter().zip(&mut controls).zip(&mut headers) {
        let parts = &parts[train.parts.0..train.parts.1];
        let parts = (parts.as_ptr().cast_mut().cast(), parts.len());
        let control = &mut control.write(Control([0; CONTROL])).0;
        let mut header = header(name, parts, (control.as_mut_ptr().cast(), CONTROL));
        write_control(&mut header.msg_hdr, from, train.cut());
        slot.write(header);
    }
    // SAFETY: the first `trains.len()` headers are initialised, and their names, parts (an `IoSlice`
    // is an `iovec`) and control buffers outlive the call, which only reads them.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            trains.len() as u32,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| last_error())
}

/// Writes the control messages that a datagram needs into the header's control buffer of
/// [`CONTROL`] zeroed bytes, and sets its length.
fn write_control(header: &mut libc::msghdr, from: Option<IpAddr>, segment: Option<u16>) {
    let mut used = 0;
    match from {
        Some(IpAddr::V4(ip)) => {
            let ipi_spec_dst = libc::in_addr { s_addr: u32::from(ip).to_be() };
            let ipi_addr = libc::in_addr { s_addr: 0 };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr };
            used = push_control(header, used, (libc::IPPROTO_IP, libc::IP_PKTINFO), info);
        }
        Some(IpAddr::V6(ip)) => {
            let ipi6_addr = libc::in6_addr { s6_addr: ip.octets() };
            let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
            used = push_control(header, used, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), info);
        }
        None => {}
    }
    if let Some(segment) = segment {
        used = push_control(header, used, (libc::SOL_UDP, libc::UDP_SEGMENT), segment);
    }
    header.msg_controllen = used;
    if used == 0 {
        header.msg_control = ptr::null_mut();
    }
}

/// Appends one control message after the `used` bytes of a header's control buffer; returns how many
/// are used then.
fn push_control<T: Copy>(
    header: &libc::msghdr,
    used: usize,
    (level, kind): (i32, i32),
    data: T,
) -> usize {
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
    let (space, length) = unsafe {
        let size = size_of::<T>() as u32;
        (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size) as usize)
    };
    debug_assert!(used + space <= CONTROL, "a packet info and a segment size fit");
    // SAFETY: `used` is the sum of the space of what was appended before, so that this message
    // begins there, aligned; it fits into the buffer, see the assertion beside `CONTROL`.
    unsafe {
        let control = header.msg_control.cast::<u8>().add(used).cast::<libc::cmsghdr>();
        (*control).cmsg_level = level;
        (*control).cmsg_type = kind;
        (*control).cmsg_len = length;
        libc::CMSG_DATA(control).cast::<T>().write_unaligned(data);
    }
    used + space
}

fn header(
    (name, name_length): (*mut libc::c_void, usize),
    (parts, part_count): (*mut libc::iovec, usize),
    (control, control_length): (*mut libc::c_void, usize),
) -> libc::mmsghdr {
    // SAFETY: all zeroes are a valid header; some C libraries pad it with private fields.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_name = name;
    header.msg_hdr.msg_namelen = name_length as libc::socklen_t;
    header.msg_hdr.msg_iov = parts;
    header.msg_hdr.msg_iovlen = part_count;
    header.msg_hdr.msg_control = control;
    header.msg_hdr.msg_controllen = control_length;
    header
}

/// Makes a socket tell which of its addresses each datagram was sent to.
///
/// # Errors
/// Those of setsockopt(2).
pub(super) fn receive_local_addresses(socket: BorrowedFd<'_>, ipv6: bool) -> Result<(), Errno> {
    if ipv6 {
        switch_on(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        switch_on(socket, libc::IPPROTO_IP, libc::IP_PKTINFO)
    }
}

/// Lets the kernel join datagrams of one sender into one message (`UDP_GRO`).
///
/// # Errors
/// Those of setsockopt(2).
pub(super) fn receive_joined(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    switch_on(socket, libc::SOL_UDP, libc::UDP_GRO)
}

/// Makes the kernel refuse trains, which need checksums, with EINVAL: as if they were too long for the
/// path.
#[cfg(test)]
pub(super) fn refuse_trains(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    switch_on(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK)
}

fn switch_on(socket: BorrowedFd<'_>, level: i32, option: i32) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
