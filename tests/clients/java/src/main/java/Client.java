import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.ClientInterceptor;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import meshserve.tests.v1.Shapes.Note;
import meshserve.tests.v1.ShapesServiceGrpc;

/** Makes one call with grpc-java and prints how it went: see ../client.py for what goes in and out. */
public final class Client {
  record NoteJson(String text, int number) {
    Note message() {
      return Note.newBuilder().setText(text).setNumber(number).build();
    }
  }

  static final class Order {
    String address;
    String method;
    Map<String, String> metadata;
    List<NoteJson> requests;
    String service = "";
    long timeout_ms;
    int cancel_after;
    boolean gzip;
    String service_config;
  }

  static final class Outcome {
    int code;
    String message = "";
    final List<NoteJson> replies = new ArrayList<>();
    final List<String> health = new ArrayList<>();
    Map<String, String> head = Map.of();
    Map<String, String> trailers = Map.of();
    List<Map<String, Object>> details = List.of();
  }

  private final Order order;
  private final Outcome outcome = new Outcome();
  private final CountDownLatch ended = new CountDownLatch(1);
  private final AtomicReference<Metadata> head = new AtomicReference<>();
  private final AtomicReference<Metadata> trailers = new AtomicReference<>();

  private Client(Order order) {
    this.order = order;
  }

  public static void main(String[] arguments) throws Exception {
    Order order = new Gson().fromJson(arguments[0], Order.class);
    NettyChannelBuilder builder =
        NettyChannelBuilder.forTarget(order.address).usePlaintext().maxInboundMessageSize(1 << 30);
    if (order.service_config != null) {
      builder.defaultServiceConfig(new Gson().fromJson(order.service_config, new TypeToken<Map<String, ?>>() {}));
    }
    ManagedChannel channel = builder.build();
    Outcome outcome = new Client(order).call(channel);
    System.out.println(new Gson().toJson(outcome));
    channel.shutdownNow();
  }

  private Outcome call(ManagedChannel channel) throws InterruptedException {
    start(channel);
    ended.await();
    outcome.head = plain(head.get());
    outcome.trailers = plain(trailers.get());
    return outcome;
  }

  private void start(ManagedChannel channel) {
    ShapesServiceGrpc.ShapesServiceStub shapes = set(ShapesServiceGrpc.newStub(channel));
    HealthGrpc.HealthStub health = set(HealthGrpc.newStub(channel));
    HealthCheckRequest question = HealthCheckRequest.newBuilder().setService(order.service).build();
    switch (order.method) {
      case "Unary" -> shapes.unary(order.requests.get(0).message(), new Replies());
      case "Down" -> shapes.down(order.requests.get(0).message(), new Replies());
      case "Up" -> {
        StreamObserver<Note> requests = shapes.up(new Replies());
        order.requests.forEach(request -> requests.onNext(request.message()));
        requests.onCompleted();
      }
      case "Both" -> {
        InStep replies = new InStep(order.requests);
        replies.requests = shapes.both(replies);
        replies.next();
      }
      case "Check" -> health.check(question, new Statuses());
      case "Watch" -> health.watch(question, new Statuses());
      default -> throw new IllegalArgumentException("no method " + order.method);
    }
  }

  private <S extends AbstractStub<S>> S set(S stub) {
    Metadata metadata = new Metadata();
    order.metadata.forEach(
        (key, value) -> metadata.put(Metadata.Key.of(key, Metadata.ASCII_STRING_MARSHALLER), value));
    ClientInterceptor sending = MetadataUtils.newAttachHeadersInterceptor(metadata);
    S with = stub.withInterceptors(sending, MetadataUtils.newCaptureMetadataInterceptor(head, trailers));
    if (order.gzip) {
      with = with.withCompression("gzip");
    }
    return order.timeout_ms > 0 ? with.withDeadlineAfter(order.timeout_ms, TimeUnit.MILLISECONDS) : with;
  }

  /** Takes what comes, and cancels when it is time. */
  private abstract class Taking<Q, R> implements ClientResponseObserver<Q, R> {
    private ClientCallStreamObserver<Q> call;
    private int taken;

    abstract void take(R reply);

    @Override
    public void beforeStart(ClientCallStreamObserver<Q> call) {
      this.call = call;
    }

    @Override
    public void onNext(R reply) {
      take(reply);
      if (++taken == order.cancel_after) {
        call.cancel("has what it wanted", null);
      }
    }

    @Override
    public void onError(Throwable error) {
      Status status = Status.fromThrowable(error);
      outcome.code = status.getCode().value();
      outcome.message = status.getDescription() == null ? "" : status.getDescription();
      outcome.details = details(error);
      ended.countDown();
    }

    @Override
    public void onCompleted() {
      ended.countDown();
    }
  }

  private class Replies extends Taking<Note, Note> {
    @Override
    void take(Note reply) {
      outcome.replies.add(new NoteJson(reply.getText(), reply.getNumber()));
    }
  }

  /** Sends a request, waits for its reply, and sends the next. */
  private final class InStep extends Replies {
    private final Queue<NoteJson> waiting;
    private StreamObserver<Note> requests;

    InStep(List<NoteJson> requests) {
      waiting = new ArrayDeque<>(requests);
    }

    void next() {
      if (waiting.isEmpty()) {
        requests.onCompleted();
      } else {
        requests.onNext(waiting.remove().message());
      }
    }

    @Override
    public void onNext(Note reply) {
      super.onNext(reply);
      if (outcome.replies.size() != order.cancel_after) {
        next();
      }
    }
  }

  private final class Statuses extends Taking<HealthCheckRequest, HealthCheckResponse> {
    @Override
    void take(HealthCheckResponse reply) {
      outcome.health.add(reply.getStatus().name());
    }
  }

  private static List<Map<String, Object>> details(Throwable error) {
    List<Map<String, Object>> found = new ArrayList<>();
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    if (status != null) {
      status.getDetailsList().forEach(packed -> found.add(detail(packed)));
    }
    return found;
  }

  private static Map<String, Object> detail(Any packed) {
    try {
      if (packed.is(ErrorInfo.class)) {
        ErrorInfo info = packed.unpack(ErrorInfo.class);
        return Map.of(
            "type", "ErrorInfo", "reason", info.getReason(), "domain", info.getDomain(), "metadata", info.getMetadataMap());
      }
      if (packed.is(RetryInfo.class)) {
        Duration delay = packed.unpack(RetryInfo.class).getRetryDelay();
        return Map.of("type", "RetryInfo", "retry_delay_ms", delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000);
      }
      if (packed.is(BadRequest.class)) {
        List<String> fields =
            packed.unpack(BadRequest.class).getFieldViolationsList().stream()
                .map(BadRequest.FieldViolation::getField)
                .toList();
        return Map.of("type", "BadRequest", "fields", fields);
      }
      return Map.of("type", packed.getTypeUrl());
    } catch (InvalidProtocolBufferException error) {
      throw new IllegalStateException(error);
    }
  }

  /** One value for each key, in hexadecimal where it is binary. */
  private static Map<String, String> plain(Metadata metadata) {
    Map<String, String> values = new TreeMap<>();
    for (String key : metadata == null ? List.<String>of() : metadata.keys()) {
      values.put(
          key,
          key.endsWith(Metadata.BINARY_HEADER_SUFFIX)
              ? HexFormat.of().formatHex(metadata.get(Metadata.Key.of(key, Metadata.BINARY_BYTE_MARSHALLER)))
              : metadata.get(Metadata.Key.of(key, Metadata.ASCII_STRING_MARSHALLER)));
    }
    return values;
  }
}
