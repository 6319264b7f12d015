//! Addresses that stand for names, inside one sandbox. Pure.
//!
//! A program that ignores the proxy asks for an address and connects to it. It gets one of ours, which leads to our listeners only, and which
//! tells us the name it was given for. Nothing is asked of a name server for it.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use crate::base::host::Name;

/// A range that no host of the internet has (RFC 2544): all of it is local inside.
pub const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);
/// Where the proxy, the name server and the model endpoints listen.
pub const OURS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Names that have listeners of their own are numbered from here.
pub const FIXED: u32 = 16;
/// Names that are met on the way, from here.
const MET: u32 = 256;
/// No more names are met by one sandbox.
const MOST: u32 = 8192;

#[derive(Clone, Debug, Default)]
pub struct Names {
    by_name: HashMap<Name, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, Name>,
    met: u32,
}

/// The address of a number.
pub fn numbered(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(NETWORK.0) + number)
}

pub fn is_ours(ip: Ipv4Addr) -> bool {
    u32::from(ip) >> (32 - NETWORK.1) == u32::from(NETWORK.0) >> (32 - NETWORK.1)
}

impl Names {
    /// Gives a name a certain address.
    pub fn fix(&mut self, name: &Name, address: Ipv4Addr) {
        self.by_name.insert(name.clone(), address);
        self.by_address.insert(address, name.clone());
    }

    pub fn known(&self, name: &Name) -> Option<Ipv4Addr> {
        self.by_name.get(name).copied()
    }

    /// The address that stands for a name; none when too many were asked for.
    pub fn address(&mut self, name: &Name) -> Option<Ipv4Addr> {
        if let Some(known) = self.by_name.get(name) {
            return Some(*known);
        }
        if self.met >= MOST {
            return None;
        }
        let address = numbered(MET + self.met);
        self.met += 1;
        self.fix(name, address);
        Some(address)
    }

    pub fn name(&self, address: Ipv4Addr) -> Option<&Name> {
        self.by_address.get(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_address_and_there_is_an_end() {
        let mut names = Names::default();
        let name = |n: u32| Name::parse(&format!("h{n}.test")).unwrap();
        names.fix(&name(0), numbered(FIXED));
        assert_eq!((names.address(&name(0)), names.name(numbered(FIXED))), (Some(numbered(FIXED)), Some(&name(0))));
        let first = names.address(&name(1)).expect("an address");
        assert_eq!(names.address(&name(1)), Some(first));
        assert!(is_ours(first) && is_ours(OURS) && !is_ours(Ipv4Addr::new(198, 20, 0, 0)) && !is_ours(Ipv4Addr::new(198, 17, 255, 255)));
        let all: std::collections::HashSet<_> = (2..MOST + 100).filter_map(|n| names.address(&name(n))).collect();
        assert_eq!(all.len() as u32, MOST - 1);
        assert!(all.iter().all(|ip| is_ours(*ip)));
    }
}
