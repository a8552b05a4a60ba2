// Makes one call with @grpc/grpc-js and prints how it went: see ../client.py for what goes in and out.
"use strict";

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");
const protobuf = require("protobufjs");

const READING = { keepCase: true, defaults: true, enums: String, longs: Number };

function load(file, folder) {
  return grpc.loadPackageDefinition(protoLoader.loadSync(file, { ...READING, includeDirs: [folder] }));
}

const { ShapesService } = load("rpcs/v1/shapes.proto", process.env.PROTOS).meshserve.tests.v1;
const healthFolder = path.join(path.dirname(require.resolve("grpc-health-check/package.json")), "proto");
const { Health } = load("health/v1/health.proto", healthFolder).grpc.health.v1;

const rich = new protobuf.Root();
rich.resolvePath = (_origin, target) => path.join(process.env.GOOGLE_PROTOS, target);
rich.loadSync(["google/rpc/status.proto", "google/rpc/error_details.proto"], { keepCase: true });

function detailsOf(metadata) {
  const [packed] = metadata.get("grpc-status-details-bin");
  if (packed === undefined) return [];
  const status = rich.lookupType("google.rpc.Status").decode(packed);
  return status.details.map((any) => {
    const type = rich.lookupType(any.type_url.split("/").pop());
    return described(type.name, type.toObject(type.decode(any.value), { defaults: true, longs: Number }));
  });
}

function described(type, detail) {
  switch (type) {
    case "RetryInfo":
      return { type, retry_delay_ms: detail.retry_delay.seconds * 1000 + detail.retry_delay.nanos / 1e6 };
    case "BadRequest":
      return { type, fields: detail.field_violations.map((violation) => violation.field) };
    default:
      return { type, ...detail };
  }
}

// One value for each key, in hexadecimal where it is binary.
function plain(metadata) {
  return Object.fromEntries(
    Object.entries(metadata.getMap()).map(([key, value]) => [key, key.endsWith("-bin") ? value.toString("hex") : value]),
  );
}

function start(order) {
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(order.metadata)) metadata.set(key, value);
  const options = order.timeout_ms ? { deadline: Date.now() + order.timeout_ms } : {};
  const channel = { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 };
  if (order.gzip) channel["grpc.default_compression_algorithm"] = grpc.compressionAlgorithms.gzip;
  if (order.service_config) channel["grpc.service_config"] = order.service_config;
  const Service = order.method === "Check" || order.method === "Watch" ? Health : ShapesService;
  const client = new Service(order.address, grpc.credentials.createInsecure(), channel);
  const method = client[order.method].bind(client);
  if (client[order.method].requestStream) {
    return client[order.method].responseStream ? method(metadata, options) : withReply(method, [metadata, options]);
  }
  const request = Service === Health ? { service: order.service } : order.requests[0];
  const given = [request, metadata, options];
  return client[order.method].responseStream ? method(...given) : withReply(method, given);
}

// A call with one reply, which comes as an event here as it does for a stream.
function withReply(method, given) {
  const call = method(...given, (_error, reply) => reply && call.emit("data", reply));
  return call;
}

function write(call, order) {
  if (typeof call.write !== "function") return;
  const waiting = [...order.requests];
  if (order.method === "Up") {
    for (const request of waiting) call.write(request);
    call.end();
    return;
  }
  // Sends a request, waits for its reply, and sends the next.
  const next = () => (waiting.length ? call.write(waiting.shift()) : call.end());
  call.on("data", next);
  next();
}

function main() {
  const order = JSON.parse(process.argv[2]);
  const outcome = { replies: [], health: [], head: {} };
  const call = start(order);
  call.on("metadata", (metadata) => (outcome.head = plain(metadata)));
  call.on("error", () => {}); // the status has it too
  call.on("data", (reply) => {
    const kept = reply.status === undefined ? outcome.replies : outcome.health;
    kept.push(reply.status === undefined ? reply : reply.status);
    if (kept.length === order.cancel_after) call.cancel();
  });
  call.on("status", (status) => {
    const { code, details: message, metadata } = status;
    // The one reply of a call comes after its status.
    setImmediate(() => {
      const details = detailsOf(metadata);
      const text = JSON.stringify({ ...outcome, code, message, trailers: plain(metadata), details });
      process.stdout.write(text, () => process.exit(0));
    });
  });
  write(call, order);
}

main();
