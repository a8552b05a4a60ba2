//! Generates the stubs of the service; `PROTOS` is the folder of the protos, `PROTOC` their compiler.

fn main() {
    let protos = std::env::var("PROTOS").expect("PROTOS names the folder of the protos");
    let proto = format!("{protos}/rpcs/v1/shapes.proto");
    tonic_prost_build::configure()
        .build_server(false)
        .compile_protos(&[proto], &[protos])
        .expect("the protos compile");
}
