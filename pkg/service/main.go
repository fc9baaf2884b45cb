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

// App is a process that was wired and not begun; package app of each service makes one.
// Run works until ctx is done.
type App interface {
	Run(ctx context.Context) error
}

// Main is the whole function main of a process: it makes the logger, reads the settings
// from the environment (see [Load]), makes the App and runs it. SIGINT and SIGTERM end the
// context; a second signal ends the process at once. When anything fails it logs one line
// and exits with 1.
//
// "<binary> healthcheck" asks the running process whether it is ready, for
// container images that hold nothing but the binary.
func Main[C any, A App](name string, newApp func(ctx context.Context, config C, log *zap.Logger) (A, error)) {
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
	err = load(ctx, log, newApp)
	stop()
	if err != nil {
		log.Error("stopped with an error", zap.Error(err))
		_ = log.Sync()
		os.Exit(1)
	}
	log.Info("stopped")
	_ = log.Sync()
}

func load[C any, A App](ctx context.Context, log *zap.Logger, newApp func(ctx context.Context, config C, log *zap.Logger) (A, error)) error {
	config, err := Load[C]()
	if err != nil {
		return err
	}
	app, err := newApp(ctx, config, log)
	if err != nil {
		return err
	}
	return app.Run(ctx)
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
