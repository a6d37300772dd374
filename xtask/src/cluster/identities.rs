//! Who is who in a cluster: one authority, certificates for servers, components and people.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};

use super::network::Network;
use crate::cache;

/// The people of a cluster and their groups; the first is the one that kubectl takes by itself.
pub const PEOPLE: [(&str, &str); 3] = [("admin", "system:masters"), ("jane", "reviewers"), ("bob", "reviewers")];

/// The name of the one node.
pub const NODE: &str = "node";

/// A component, the user that it acts as, and that user's group.
const COMPONENTS: [(&str, &str, &str); 5] = [
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("proxy", "system:kube-proxy", ""),
    ("kubelet", "system:node:node", "system:nodes"),
    ("dns", "system:dns", ""),
];

/// The files that prove identities, below one folder.
#[derive(Debug)]
pub struct Identities {
    dir: PathBuf,
}

impl Identities {
    /// Creates an authority and everything that it vouches for.
    pub fn create(dir: PathBuf, network: &Network) -> Result<Self> {
        cache::create(&dir)?;
        let identities = Self { dir };
        let authority = authority()?;
        cache::write(&identities.authority(), authority.pem())?;
        cache::write(&identities.file("ca.key"), authority.key().serialize_pem())?;

        let signer = KeyPair::generate()?;
        cache::write(&identities.file("accounts.key"), signer.serialize_pem())?;
        cache::write(&identities.file("accounts.pub"), signer.public_key_pem())?;

        let first_service = network.service(1);
        let mut names = vec![
            network.node.to_string(),
            first_service.to_string(),
            "127.0.0.1".to_owned(),
        ];
        names.extend(
            [
                "localhost",
                "kubernetes",
                "kubernetes.default",
                "kubernetes.default.svc",
            ]
            .map(str::to_owned),
        );
        names.push("kubernetes.default.svc.cluster.local".to_owned());
        identities.issue(&authority, "api", "kube-apiserver", "", &names)?;
        identities.issue(&authority, "node", NODE, "", &[network.node.to_string()])?;
        identities.issue(&authority, "api-to-kubelet", "kube-apiserver", "system:masters", &[])?;
        for (file, user, group) in COMPONENTS {
            identities.issue(&authority, file, user, group, &[])?;
            let content = identities.kubeconfig(network, &[file])?;
            cache::write(&identities.kubeconfig_of(file), content)?;
        }
        for (person, group) in PEOPLE {
            identities.issue(&authority, person, person, group, &[])?;
        }
        Ok(identities)
    }

    /// The files that `create` has written.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The certificate of the authority.
    pub fn authority(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// A file by its name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The kubeconfig of a component.
    pub fn kubeconfig_of(&self, component: &str) -> PathBuf {
        self.file(&format!("{component}.kubeconfig"))
    }

    /// Writes the kubeconfig with one context for each person.
    pub fn write_kubeconfig(&self, path: &Path, network: &Network) -> Result<()> {
        cache::write(path, self.kubeconfig(network, &PEOPLE.map(|(person, _)| person))?)
    }

    fn kubeconfig(&self, network: &Network, users: &[&str]) -> Result<String> {
        let server = format!("https://{}:{}", network.node, network.api_port);
        let cluster = json!({ "server": server, "certificate-authority": self.authority() });
        let user = |name: &&str| -> Value {
            let certificate = self.file(&format!("{name}.crt"));
            let key = self.file(&format!("{name}.key"));
            json!({ "name": name, "user": { "client-certificate": certificate, "client-key": key } })
        };
        let context = |name: &&str| json!({ "name": name, "context": { "cluster": "flywheel", "user": name } });
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "flywheel", "cluster": cluster }],
            "users": users.iter().map(user).collect::<Value>(),
            "contexts": users.iter().map(context).collect::<Value>(),
            "current-context": users.first(),
        });
        serde_saphyr::to_string(&config).context("cannot write a kubeconfig")
    }

    fn issue(
        &self,
        by: &CertifiedIssuer<'_, KeyPair>,
        file: &str,
        user: &str,
        group: &str,
        names: &[String],
    ) -> Result<()> {
        let context = || format!("cannot issue the certificate of {user}");
        let key = KeyPair::generate().with_context(context)?;
        let mut params = CertificateParams::new(names).with_context(context)?;
        params.distinguished_name = subject(user, group);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match names {
            [] => vec![ExtendedKeyUsagePurpose::ClientAuth],
            _ => vec![ExtendedKeyUsagePurpose::ServerAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, by).with_context(context)?;
        cache::write(&self.file(&format!("{file}.crt")), certificate.pem())?;
        cache::write(&self.file(&format!("{file}.key")), key.serialize_pem())
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("flywheel test cluster", "");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key = KeyPair::generate().context("cannot make the authority's key")?;
    CertifiedIssuer::self_signed(params, key).context("cannot make the authority's certificate")
}

/// Kubernetes reads the user from the common name and the groups from the organisations.
fn subject(user: &str, group: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if !group.is_empty() {
        name.push(DnType::OrganizationName, group);
    }
    name
}
