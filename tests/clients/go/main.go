// Makes one call with grpc-go and prints how it went: see ../client.py for what goes in and out.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	_ "google.golang.org/grpc/health" // what a service config asks of health works with this alone
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"meshserve.dev/tests/clients/shapes"
)

type note struct {
	Text   string `json:"text"`
	Number int32  `json:"number"`
}

type order struct {
	Address     string            `json:"address"`
	Method      string            `json:"method"`
	Metadata    map[string]string `json:"metadata"`
	Requests    []note            `json:"requests"`
	Service     string            `json:"service"`
	TimeoutMs   int               `json:"timeout_ms"`
	CancelAfter int               `json:"cancel_after"`
	Gzip        bool              `json:"gzip"`
	Config      string            `json:"service_config"`
}

type outcome struct {
	Code     int               `json:"code"`
	Message  string            `json:"message"`
	Replies  []note            `json:"replies"`
	Health   []string          `json:"health"`
	Head     map[string]string `json:"head"`
	Trailers map[string]string `json:"trailers"`
	Details  []map[string]any  `json:"details"`
}

// call is what one order needs while it is under way.
type call struct {
	order   order
	stub    shapes.ShapesServiceClient
	health  healthpb.HealthClient
	options []grpc.CallOption
	result  *outcome
	cancel  context.CancelFunc
}

func main() {
	var wanted order
	if err := json.Unmarshal([]byte(os.Args[1]), &wanted); err != nil {
		log.Fatal(err)
	}
	large := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30))
	dialing := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), large}
	if wanted.Config != "" {
		dialing = append(dialing, grpc.WithDefaultServiceConfig(wanted.Config))
	}
	connection, err := grpc.NewClient(wanted.Address, dialing...)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()

	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(context.Background(), metadata.New(wanted.Metadata)))
	defer cancel()
	if wanted.TimeoutMs > 0 {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(wanted.TimeoutMs)*time.Millisecond)
		defer cancel()
	}
	var head, trailers metadata.MD
	options := []grpc.CallOption{grpc.Header(&head), grpc.Trailer(&trailers)}
	if wanted.Gzip {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	result := outcome{Replies: []note{}, Health: []string{}, Details: []map[string]any{}}
	made := call{
		wanted, shapes.NewShapesServiceClient(connection), healthpb.NewHealthClient(connection), options, &result, cancel,
	}
	result.setStatus(made.run(ctx))
	result.Head, result.Trailers = plain(head), plain(trailers)
	text, _ := json.Marshal(result)
	fmt.Println(string(text))
}

func (c *call) run(ctx context.Context) error {
	switch c.order.Method {
	case "Unary":
		reply, err := c.stub.Unary(ctx, c.request(0), c.options...)
		c.keep(reply, err)
		return err
	case "Down":
		stream, err := c.stub.Down(ctx, c.request(0), c.options...)
		if err != nil {
			return err
		}
		return c.readAll(stream)
	case "Up":
		return c.up(ctx)
	case "Both":
		return c.both(ctx)
	case "Check":
		reply, err := c.health.Check(ctx, &healthpb.HealthCheckRequest{Service: c.order.Service}, c.options...)
		if err == nil {
			c.result.Health = append(c.result.Health, reply.Status.String())
		}
		return err
	case "Watch":
		return c.watch(ctx)
	}
	return fmt.Errorf("no method %q", c.order.Method)
}

func (c *call) up(ctx context.Context) error {
	stream, err := c.stub.Up(ctx, c.options...)
	if err != nil {
		return err
	}
	for index := range c.order.Requests {
		if err := stream.Send(c.request(index)); err != nil {
			break // the status comes with CloseAndRecv
		}
	}
	reply, err := stream.CloseAndRecv()
	c.keep(reply, err)
	return err
}

// both sends a request, waits for its reply, and sends the next.
func (c *call) both(ctx context.Context) error {
	stream, err := c.stub.Both(ctx, c.options...)
	if err != nil {
		return err
	}
	for index := range c.order.Requests {
		if err := stream.Send(c.request(index)); err != nil {
			break
		}
		reply, err := stream.Recv()
		c.keep(reply, err)
		if err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return c.readAll(stream)
}

func (c *call) watch(ctx context.Context) error {
	stream, err := c.health.Watch(ctx, &healthpb.HealthCheckRequest{Service: c.order.Service}, c.options...)
	for err == nil {
		var reply *healthpb.HealthCheckResponse
		if reply, err = stream.Recv(); err == nil {
			c.result.Health = append(c.result.Health, reply.Status.String())
			c.cancelWhenWanted(len(c.result.Health))
		}
	}
	return err
}

func (c *call) readAll(stream interface{ Recv() (*shapes.Note, error) }) error {
	for {
		reply, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		c.keep(reply, err)
		if err != nil {
			return err
		}
	}
}

func (c *call) request(index int) *shapes.Note {
	wanted := c.order.Requests[index]
	return &shapes.Note{Text: wanted.Text, Number: wanted.Number}
}

func (c *call) keep(reply *shapes.Note, err error) {
	if err == nil {
		c.result.Replies = append(c.result.Replies, note{reply.Text, reply.Number})
		c.cancelWhenWanted(len(c.result.Replies))
	}
}

func (c *call) cancelWhenWanted(count int) {
	if count == c.order.CancelAfter {
		c.cancel()
	}
}

// plain has one value for each key, in hexadecimal where it is binary.
func plain(received metadata.MD) map[string]string {
	values := map[string]string{}
	for key, all := range received {
		values[key] = all[len(all)-1]
		if strings.HasSuffix(key, "-bin") {
			values[key] = hex.EncodeToString([]byte(values[key]))
		}
	}
	return values
}

func (o *outcome) setStatus(err error) {
	found := status.Convert(err)
	o.Code, o.Message = int(found.Code()), found.Message()
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			o.Details = append(o.Details, map[string]any{
				"type": "ErrorInfo", "reason": detail.Reason, "domain": detail.Domain, "metadata": detail.Metadata,
			})
		case *errdetails.RetryInfo:
			o.Details = append(o.Details, map[string]any{
				"type": "RetryInfo", "retry_delay_ms": detail.RetryDelay.AsDuration().Milliseconds(),
			})
		case *errdetails.BadRequest:
			fields := []string{}
			for _, violation := range detail.FieldViolations {
				fields = append(fields, violation.Field)
			}
			o.Details = append(o.Details, map[string]any{"type": "BadRequest", "fields": fields})
		}
	}
}
