//! The addresses of a cluster, and the link between this machine and the cluster's network.
//!
//! A full cluster has a network of its own behind one virtual cable, so that its firewall rules,
//! routes and devices vanish with it and never meet those of another cluster.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::processes::{self, Place};
use crate::{cache, shell};

/// How many full clusters can exist side by side.
const SLOTS: u8 = 200;
const INSIDE_DEADLINE: Duration = Duration::from_secs(10);

/// The addresses of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Where the API server and, in a full cluster, the node are reached.
    pub node: Ipv4Addr,
    /// Where pods reach this machine.
    pub host: Ipv4Addr,
    /// The first three numbers of all service addresses.
    services: [u8; 3],
    /// The first three numbers of all pod addresses.
    pods: [u8; 3],
    /// The number that sets the ranges of full clusters apart; none for a cluster without a node.
    pub slot: Option<u8>,
    /// The port of the API server.
    pub api_port: u16,
    /// The port on which etcd serves the API server.
    pub etcd_port: u16,
    /// The port on which etcd would serve its peers.
    pub peer_port: u16,
}

impl Network {
    /// Addresses on the loopback device, at ports that are free now.
    pub fn on_loopback() -> Result<Self> {
        // All are held until all are known, so that they differ.
        let held: Vec<TcpListener> = (0..3)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<_, _>>()
            .context("cannot find a free port on 127.0.0.1")?;
        let ports: Vec<u16> = held
            .iter()
            .filter_map(|port| Some(port.local_addr().ok()?.port()))
            .collect();
        let [api_port, etcd_port, peer_port] = ports[..] else {
            bail!("cannot read the ports that were found on 127.0.0.1");
        };
        let (services, pods) = ([10, 96, 255], [10, 244, 255]);
        let node = Ipv4Addr::LOCALHOST;
        Ok(Self {
            node,
            host: node,
            services,
            pods,
            slot: None,
            api_port,
            etcd_port,
            peer_port,
        })
    }

    /// Addresses of a network of its own, which neither a recorded cluster nor this machine uses.
    pub fn of_its_own(taken: &[u8]) -> Result<Self> {
        for slot in (0..SLOTS).filter(|slot| !taken.contains(slot)) {
            let network = Self::in_slot(slot);
            if network.is_free()? {
                return Ok(network);
            }
        }
        bail!("all {SLOTS} ranges below 10.97.0.0 are in use: take a cluster down with `cargo xtask cluster down`")
    }

    fn in_slot(slot: u8) -> Self {
        Self {
            node: Ipv4Addr::new(10, 97, slot, 2),
            host: Ipv4Addr::new(10, 97, slot, 1),
            services: [10, 96, slot],
            pods: [10, 244, slot],
            slot: Some(slot),
            api_port: 6443,
            etcd_port: 2379,
            peer_port: 2380,
        }
    }

    fn is_free(&self) -> Result<bool> {
        let services = self.service(1).to_string();
        for address in [&self.node.to_string(), &services] {
            let route = shell::run(Command::new("ip").args(["-4", "route", "show", "to", "match", address]))?;
            if route.lines().any(|line| !line.starts_with("default")) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The range of the service addresses.
    pub fn service_range(&self) -> String {
        let [a, b, c] = self.services;
        format!("{a}.{b}.{c}.0/24")
    }

    /// One address of the service range; the first is the API server's.
    pub fn service(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.services;
        Ipv4Addr::new(a, b, c, last)
    }

    /// The range of the pod addresses.
    pub fn pod_range(&self) -> String {
        let [a, b, c] = self.pods;
        format!("{a}.{b}.{c}.0/24")
    }
}

/// Creates the namespaces of a cluster and connects them with this machine by a cable of that name.
pub fn enter(place: &Place, network: &Network, link: &str) -> Result<Place> {
    let script = place.state.join("init.sh");
    cache::write(&script, include_str!("init.sh"))?;
    let unshare = shell::find("unshare").context("there is no `unshare`: install the package util-linux")?;
    let flags = [
        "--fork",
        "--pid",
        "--mount",
        "--net",
        "--propagation",
        "slave",
        "--",
        "/bin/sh",
    ];
    let arguments = flags
        .iter()
        .map(Path::new)
        .chain([script.as_path(), place.state.as_path()]);
    place.start("namespaces", &unshare, arguments)?;

    let deadline = Instant::now() + INSIDE_DEADLINE;
    while !place.state.join("inside").exists() {
        place.expect_alive("namespaces")?;
        if Instant::now() > deadline {
            bail!(
                "the namespaces are not ready after 10 s; see {}",
                place.log("namespaces").display()
            );
        }
        sleep(Duration::from_millis(20));
    }
    let pid = processes::first_inside(&place.state).context("the first process of the namespaces has ended")?;
    let inside = Place {
        inside: Some(pid),
        ..place.clone()
    };
    connect(&inside, network, link, &pid.as_raw_nonzero().to_string())?;
    Ok(inside)
}

fn connect(inside: &Place, network: &Network, link: &str, pid: &str) -> Result<()> {
    let ip = shell::find("ip").context("there is no `ip`: install the package iproute2")?;
    let (host, node) = (network.host.to_string(), network.node.to_string());
    let here = |words: &[&str]| shell::run(Command::new(&ip).args(words)).map(drop);
    let there = |words: &[&str]| shell::run(inside.command(&ip).args(words)).map(drop);

    here(&[
        "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", pid,
    ])?;
    here(&["addr", "add", &format!("{host}/30"), "dev", link])?;
    here(&["link", "set", link, "up"])?;
    there(&["addr", "add", &format!("{node}/30"), "dev", "eth0"])?;
    there(&["link", "set", "eth0", "up"])?;
    there(&["route", "add", "default", "via", &host])?;
    for range in [network.service_range(), network.pod_range()] {
        here(&["route", "add", &range, "via", &node])?;
    }
    Ok(())
}

/// Removes this machine's end of a cable, and with it the routes and the other end.
pub fn disconnect(link: &str) -> Result<()> {
    let device = Path::new("/sys/class/net").join(link);
    if let Some(ip) = shell::find("ip").filter(|_| device.exists()) {
        let output = shell::output(Command::new(ip).args(["link", "delete", link]))?;
        // It also vanishes by itself when the last process inside has ended.
        if !output.status.success() && device.exists() {
            bail!("cannot remove the network device {link}: {}", shell::said(&output));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn clusters_in_different_slots_share_no_address() {
        let (one, two) = (Network::in_slot(1), Network::in_slot(2));
        assert_eq!(one.service_range(), "10.96.1.0/24");
        assert_ne!(one.service_range(), two.service_range());
        assert_ne!(one.pod_range(), two.pod_range());
        assert_ne!(one.node, two.node);
    }

    #[test]
    fn ports_on_the_loopback_device_differ() -> anyhow::Result<()> {
        let network = Network::on_loopback()?;
        assert_ne!(network.api_port, network.etcd_port);
        assert_ne!(network.etcd_port, network.peer_port);
        Ok(())
    }
}
