package contract

import (
	"fmt"
	"slices"
	"time"

	"example.com/orderflow/pkg/messaging"
)

// FederationUser is the broker user that the other region's broker logs in as.
const FederationUser = "federation"

// notified has the regions with their own broker, and for each the regions whose customers
// its notifier serves. Each region's customers are served by one notifier.
var notified = map[string][]string{
	RegionEU: {RegionEU, RegionAPAC},
	RegionUS: {RegionUS},
}

// InRegion is the topology of one region's broker. A customer may order in any region: order
// events go to all brokers, and the notifier of the customer's region sends the notifications.
// Everything else stays in the region where the order was placed, also the receipt.
func InRegion(region string, paymentDeadline time.Duration) (messaging.Topology, error) {
	regions, ok := notified[region]
	if !ok {
		return messaging.Topology{}, fmt.Errorf("the region %q has no broker of its own", region)
	}
	t := all(paymentDeadline, regions...)
	i := slices.IndexFunc(t.Exchanges, func(x messaging.Exchange) bool { return x.Name == OrdersEvents })
	t.Exchanges[i].Federated = true
	t.Users = append(t.Users, messaging.FederationUser(FederationUser, OrdersEvents))
	return t, nil
}
