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

// App is a process that is ready to run. Package app of each service makes one. Run works
// until ctx is done.
type App interface {
	Run(ctx context.Context) error
}

// Main is the complete main function of a process: it makes the logger, reads the settings
// from the environment (see [Load]), makes the App and runs it. SIGINT and SIGTERM cancel the
// context; a second signal ends the process at once. If a step fails, Main logs one line and
// exits with 1.
//
// "<binary> healthcheck" asks the running process whether it is ready. It is for container
// images that contain only the binary.
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

// newLogger makes a logger that writes JSON to standard output, one line for each entry of
// LOG_LEVEL or above.
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

// Instance is the name of this replica: INSTANCE, or the host name.
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
