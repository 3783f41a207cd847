//! Asks AWS's own sources: the environment, profiles (static keys, single sign-on, a process, an assumed role), a web
//! identity, a container's and a machine's metadata service.
//!
//! Each question reads files and the environment anew.

use aws_config::Region;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;

/// The credentials of one profile. In its words, why there are none.
pub(super) async fn profile(name: &str, region: &str) -> Result<Credentials, String> {
    let provider = ProfileFileCredentialsProvider::builder().configure(&config(region)).profile_name(name);
    provider.build().provide_credentials().await.map_err(|error| {
        let hint = "if it signs in by single sign-on, sign in again";
        format!("{}; {hint}", why(&error))
    })
}

/// The credentials of the first source that has some. In the sources' words, why there are none.
pub(super) async fn usual(region: &str) -> Result<Credentials, String> {
    let config = &config(region);
    let mut asked = Vec::new();
    for (name, source) in sources(config) {
        match source.provide_credentials().await {
            Ok(credentials) => return Ok(credentials),
            Err(error) => {
                let goes_on = matches!(error, CredentialsError::CredentialsNotLoaded(_));
                asked.push(format!("{name}: {}", why(&error)));
                // A source that is configured and fails is not passed over: other keys would be somebody else's.
                if !goes_on {
                    break;
                }
            }
        }
    }
    Err(format!("no source gave any ({})", asked.join("; ")))
}

/// In AWS's order.
fn sources(config: &ProviderConfig) -> [(&'static str, Box<dyn ProvideCredentials>); 5] {
    let profile = ProfileFileCredentialsProvider::builder().configure(config).build();
    let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(config).build();
    let container = EcsCredentialsProvider::builder().configure(config).build();
    let machine = ImdsCredentialsProvider::builder().configure(config).build();
    [
        ("environment", Box::new(EnvironmentVariableCredentialsProvider::new())),
        ("profile", Box::new(profile)),
        ("web identity", Box::new(web_identity)),
        ("container", Box::new(container)),
        ("machine", Box::new(machine)),
    ]
}

fn config(region: &str) -> ProviderConfig {
    ProviderConfig::without_region().with_region(Some(Region::new(region.to_owned())))
}

/// The kind of an error. Its own words are left out: they may repeat a process's output.
fn why(error: &CredentialsError) -> &'static str {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => "has none",
        CredentialsError::ProviderTimedOut(_) => "did not answer in time",
        CredentialsError::InvalidConfiguration(_) => "is configured in a way that cannot work",
        CredentialsError::ProviderError(_) => "failed",
        _ => "failed in an unknown way",
    }
}
