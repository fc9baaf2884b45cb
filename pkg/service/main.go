package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Main runs a process: it makes the logger, turns SIGINT and SIGTERM into the end
// of the context, and exits with 1 and one line when run fails. A second signal
// ends the process at once.
//
// "<binary> healthcheck" asks the running process whether it is ready, for
// container images that hold nothing but the binary.
func Main(name string, run func(ctx context.Context, log *zap.Logger) error) {
	if len(os.Args) > 1 && os.Args[1] == "healthcheck" {
		if err := healthcheck(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	log, err := newLogger(name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	log.Info("starting", zap.String("version", Version()))
	err = run(ctx, log)
	stop()
	if err != nil {
		log.Error("stopped with an error", zap.Error(err))
		_ = log.Sync()
		os.Exit(1)
	}
	log.Info("stopped")
	_ = log.Sync()
}

// newLogger logs JSON to standard output, one event a line, from LOG_LEVEL on.
func newLogger(name string) (*zap.Logger, error) {
	config := zap.NewProductionConfig()
	config.Sampling = nil
	config.DisableCaller = true
	config.DisableStacktrace = true
	config.OutputPaths = []string{"stdout"}
	config.EncoderConfig.TimeKey = "time"
	config.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	if level := os.Getenv("LOG_LEVEL"); level != "" {
		if err := config.Level.UnmarshalText([]byte(level)); err != nil {
			return nil, fmt.Errorf("LOG_LEVEL: %w", err)
		}
	}
	log, err := config.Build()
	if err != nil {
		return nil, fmt.Errorf("make the logger: %w", err)
	}
	return log.With(zap.String("service", name), zap.String("instance", Instance())), nil
}

// Instance tells replicas apart: INSTANCE, or the host's name.
func Instance() string {
	if name := os.Getenv("INSTANCE"); name != "" {
		return name
	}
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

func healthcheck() error {
	host, port, err := net.SplitHostPort(os.Getenv("HTTP_ADDR"))
	if err != nil {
		return fmt.Errorf("HTTP_ADDR: %w", err)
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New("not ready: " + res.Status)
	}
	return nil
}
