// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors

//! Values of UDP_GRM_DISSECTOR.

use std::io::{Error, ErrorKind};

use crate::Result;

const CBPF: u32 = 1;
const NOOP: u32 = 4;
const NAMED: u32 = 16;
const SIZE: usize = 632;
const HEAD: usize = 116;
const NAME: usize = 32;
const MOST_INSTRUCTIONS: usize = 64;
const MOST_APPLICATIONS: u32 = 4;

/// How a group's packets find their sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dissector {
    kind: u32,
    flow_timeout_s: u32,
    apps: u32,
    rest: Vec<u8>,
}

/// One instruction of a classic BPF filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

impl Dissector {
    /// Keep flows by peer; 0 seconds mean 125.
    pub fn flow(flow_timeout_s: u32) -> Self {
        Dissector { flow_timeout_s, ..Default::default() }
    }

    /// Take every packet for a new flow.
    pub fn noop() -> Self {
        Dissector { kind: NOOP, ..Default::default() }
    }

    /// Find the udpgrm cookie with a filter; give new flows to up to four applications.
    pub fn cbpf(filter: &[Instruction], apps: u32) -> Result<Self> {
        if filter.is_empty() || filter.len() > MOST_INSTRUCTIONS || apps > MOST_APPLICATIONS {
            return Err(invalid("too many instructions or applications, or no instruction"));
        }
        let mut rest = (filter.len() as u32).to_ne_bytes().to_vec();
        for one in filter {
            rest.extend(one.code.to_ne_bytes());
            rest.extend([one.jt, one.jf]);
            rest.extend(one.k.to_ne_bytes());
        }
        Ok(Dissector { kind: CBPF, apps, rest, ..Default::default() })
    }

    /// A dissector of the library, such as `quic` with `{"cid_length": 8}`.
    ///
    /// All sockets of a group need the same text.
    pub fn named(name: &str, parameters: &str) -> Result<Self> {
        let is_short = name.len() < NAME && HEAD + NAME + parameters.len() < SIZE;
        if name.is_empty() || !is_short {
            return Err(invalid("the dissector has no name, or its text is too long"));
        }
        let mut rest = name.as_bytes().to_vec();
        rest.resize(NAME, 0);
        rest.extend(parameters.as_bytes());
        Ok(Dissector { kind: NAMED, rest, ..Default::default() })
    }

    pub(crate) fn value(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(SIZE);
        for word in [self.kind, self.flow_timeout_s, self.apps] {
            value.extend(word.to_ne_bytes());
        }
        value.resize(HEAD, 0);
        value.extend(&self.rest);
        value.resize(SIZE, 0);
        value
    }
}

fn invalid(text: &str) -> crate::Error {
    crate::Error::Io(Error::new(ErrorKind::InvalidInput, text))
}
