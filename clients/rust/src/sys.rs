// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

//! System calls that the standard library has no function for; it links the C library anyway.

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::io::{AsRawFd, FromRawFd, RawFd};

const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const SOCK_DGRAM: i32 = 2;
const SOCK_CLOEXEC: i32 = 0o2000000;
const SOL_SOCKET: i32 = 1;
const SO_REUSEPORT: i32 = 15;
const IPPROTO_UDP: i32 = 17;
pub const EBADF: i32 = 9;
pub const EBADFD: i32 = 77;
pub const ENOPROTOOPT: i32 = 92;

extern "C" {
    #[link_name = "socket"]
    fn c_socket(domain: i32, kind: i32, protocol: i32) -> i32;
    #[link_name = "bind"]
    fn c_bind(socket: RawFd, address: *const u8, length: u32) -> i32;
    fn setsockopt(socket: RawFd, level: i32, option: i32, value: *const u8, length: u32) -> i32;
    fn getsockopt(socket: RawFd, level: i32, option: i32, value: *mut u8, length: *mut u32) -> i32;
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Return a new UDP socket of an address's family.
pub fn socket(address: &SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    // SAFETY: no pointers; the descriptor is new and owned by nothing else
    unsafe {
        let fd = checked(c_socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0))?;
        Ok(UdpSocket::from_raw_fd(fd))
    }
}

/// Return an address as struct sockaddr_in or sockaddr_in6.
pub fn sockaddr(address: &SocketAddr) -> Vec<u8> {
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut raw = (family as u16).to_ne_bytes().to_vec();
    raw.extend(address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            raw.extend(v4.ip().octets());
            raw.extend([0; 8]);
        }
        SocketAddr::V6(v6) => {
            raw.extend(v6.flowinfo().to_ne_bytes());
            raw.extend(v6.ip().octets());
            raw.extend(v6.scope_id().to_ne_bytes());
        }
    }
    raw
}

/// Bind a socket to an address.
pub fn bind(socket: &UdpSocket, address: &SocketAddr) -> io::Result<()> {
    let raw = sockaddr(address);
    // SAFETY: the kernel reads `raw` only, and no further than its length
    checked(unsafe { c_bind(socket.as_raw_fd(), raw.as_ptr(), raw.len() as u32) })?;
    Ok(())
}

/// Set SO_REUSEPORT.
pub fn share_port(socket: &UdpSocket) -> io::Result<()> {
    set_at(SOL_SOCKET, socket, SO_REUSEPORT, &1i32.to_ne_bytes())
}

/// Set one of udpgrm's options.
pub fn set<S: AsRawFd>(socket: &S, option: i32, value: &[u8]) -> io::Result<()> {
    set_at(IPPROTO_UDP, socket, option, value)
}

fn set_at<S: AsRawFd>(level: i32, socket: &S, option: i32, value: &[u8]) -> io::Result<()> {
    let (fd, length) = (socket.as_raw_fd(), value.len() as u32);
    // SAFETY: the kernel reads `value` only, and no further than its length
    checked(unsafe { setsockopt(fd, level, option, value.as_ptr(), length) })?;
    Ok(())
}

/// Return the value of one of udpgrm's options.
pub fn get<S: AsRawFd, const N: usize>(socket: &S, option: i32) -> io::Result<[u8; N]> {
    let mut value = [0; N];
    let mut length = size_of::<[u8; N]>() as u32;
    let (fd, to) = (socket.as_raw_fd(), value.as_mut_ptr());
    // SAFETY: the kernel writes into `value` only, `length` bytes at most
    checked(unsafe { getsockopt(fd, IPPROTO_UDP, option, to, &mut length) })?;
    Ok(value)
}
