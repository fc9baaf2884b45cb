package service

import (
	"context"
	"time"

	"example.com/orderflow/contract"
	"example.com/orderflow/pkg/messaging"
)

const heartbeatInterval = 5 * time.Second

// heartbeat tells whoever listens, every 5 s, that this process is alive, which version
// it is and how many messages it has in hand, until ctx is done. Nobody needs to listen,
// nothing is confirmed, and a heartbeat that is older than the next one expires: fire
// and forget.
func heartbeat(ctx context.Context, pub *messaging.Publisher, service string, inFlight func() int64) {
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = pub.Close(closing)
	}()
	started := time.Now()
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for {
		m, err := messaging.NewMessage(contract.Heartbeat, contract.HeartbeatBody{
			Service:       service,
			Instance:      Instance(),
			Version:       Version(),
			InFlight:      inFlight(),
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
