package service

import (
	"context"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

const heartbeatInterval = 5 * time.Second

// Heartbeat tells whoever listens, every 5 s, that this process is alive, until
// ctx is done. Nobody needs to listen, nothing is confirmed, and a heartbeat that
// is older than the next one expires: fire and forget.
func Heartbeat(ctx context.Context, conn *messaging.Conn, service string) {
	pub := conn.Publisher(messaging.WithoutConfirms())
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = pub.Close(closing)
	}()
	started := time.Now()
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		m, err := messaging.NewMessage(contract.HeartbeatType, contract.Heartbeat{
			Service:       service,
			Instance:      Instance(),
			UptimeSeconds: int64(time.Since(started).Seconds()),
		})
		if err == nil {
			m.Transient = true
			m.Expiration = heartbeatInterval
			_ = pub.Publish(ctx, messaging.Route{Exchange: contract.OpsHeartbeats}, m) // lost is lost
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
