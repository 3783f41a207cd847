//! The contract follows the linter's standard rules.

use service_e2e::{home::Home, places, process, provision};

#[tokio::test]
async fn the_contract_passes_the_linter() -> anyhow::Result<()> {
    let Some(buf) = provision::buf("the_contract_passes_the_linter").await? else { return Ok(()) };
    let home = Home::new()?;
    let mut lint = service_e2e::clients::on(&home, &buf);
    lint.arg("lint").arg(places::repository()?.join("proto"));
    process::run(lint, std::time::Duration::from_secs(60)).await?.success()?;
    Ok(())
}
