//! Compiles the files in `proto` in pure Rust (protox), so that no `protoc` is needed.

const CONTRACT: [&str; 6] = [
    "picket/v1/admin.proto",
    "picket/v1/decision.proto",
    "picket/v1/device_admin.proto",
    "picket/v1/policy_admin.proto",
    "picket/v1/risk_admin.proto",
    "picket/v1/role_admin.proto",
];
const EXTERNAL_AUTHORIZATION: [&str; 1] = ["envoy/service/auth/v3/external_auth.proto"];
/// The modules of everything but the contract, nested as their packages are.
const ENVOY_MODULES: &str = "envoy_modules.rs";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    compile(&CONTRACT, None)?;
    if has_feature("EXT_AUTHZ") {
        compile(&EXTERNAL_AUTHORIZATION, Some(ENVOY_MODULES))?;
    }
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}

fn compile(files: &[&str], modules: Option<&str>) -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(files, ["proto"])?;
    let mut build = tonic_prost_build::configure()
        .build_client(has_feature("CLIENT"))
        .build_server(has_feature("SERVER"))
        .btree_map(".");
    if let Some(modules) = modules {
        build = build.include_file(modules);
    }
    build.compile_fds(descriptors)?;
    Ok(())
}

fn has_feature(name: &str) -> bool {
    std::env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}
