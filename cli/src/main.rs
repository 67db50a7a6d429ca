//! The `picket` command; all of it is in the library.

fn main() -> std::process::ExitCode {
    picket::run(std::env::args_os())
}
