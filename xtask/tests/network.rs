//! How the addresses of Services behave on the local cluster. `cargo xtask test` runs this; it needs root and is ignored
//! otherwise, because it brings up a real cluster.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use xtask::cluster::{self, Audit, Cluster, Options, Profile};

/// Longer than the pauses after which a client sends the first packet of a connection again: 1, 2, 3, 4, 5 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// A Service at this address whose one endpoint is a port of this machine: the endpoint first, because connections to a
/// Service without one are refused.
fn service(address: IpAddr, endpoint: SocketAddr) -> String {
    let (host, port) = (endpoint.ip(), endpoint.port());
    format!(
        r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"late-1",
            "labels":{{"kubernetes.io/service-name":"late"}}}},"addressType":"IPv4","ports":[{{"port":{port}}}],
            "endpoints":[{{"addresses":["{host}"],"conditions":{{"ready":true}}}}]}}
{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"late"}},"spec":{{"clusterIP":"{address}",
            "ports":[{{"port":80,"targetPort":{port}}}]}}}}"#
    )
}

/// An address of the low band of the service range, which is not given out by itself.
fn unused_address(cluster: &Cluster) -> Result<IpAddr> {
    let first = cluster.kubectl(&["get", "service", "kubernetes", "--output", "jsonpath={.spec.clusterIP}"])?;
    let range = first.strip_suffix(".1").context("the first address ends with .1")?;
    Ok(format!("{range}.7").parse()?)
}

#[test]
#[ignore = "brings up a cluster: run `cargo xtask test`"]
fn a_connection_that_was_begun_before_its_service_was_known_is_answered_once_it_is() -> Result<()> {
    let name = format!("late-{}", std::process::id());
    let cluster = cluster::up(&Options {
        name: name.clone(),
        profile: Profile::Full,
        audit: Audit::Writes,
    })?;
    let answered = begin_early(&cluster);
    cluster::down(&name)?;
    answered
}

fn begin_early(cluster: &Cluster) -> Result<()> {
    let address = unused_address(cluster)?;
    let listener = TcpListener::bind((cluster.host_address, 0))?;
    let early = thread::spawn(move || TcpStream::connect_timeout(&SocketAddr::new(address, 80), PATIENCE));
    sleep(Duration::from_millis(500));
    cluster.kubectl_with_input(&["apply", "--filename", "-"], &service(address, listener.local_addr()?))?;
    let answered = early.join().map_err(|_| anyhow!("the client panicked"))?;
    answered.context("the connection was never answered")?;
    Ok(())
}
