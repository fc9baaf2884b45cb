package contract

import (
	"fmt"
	"slices"
	"time"

	"example.com/orderflow/pkg/messaging"
)

// FederationUser is the broker user that the other region's broker logs in as.
const FederationUser = "federation"

// told are the regions with a broker of their own, and whose customers the notifier
// there tells: each region's events have one notifier to tell of them.
var told = map[string][]string{
	RegionEU: {RegionEU, RegionAPAC},
	RegionUS: {RegionUS},
}

// InRegion is the topology of one region's broker. A customer may order in any
// region: order events go to all brokers, and the customer's own region tells of them.
// All else stays where the order was placed, and so does the receipt for a payment.
func InRegion(region string, paymentDeadline time.Duration) (messaging.Topology, error) {
	regions, ok := told[region]
	if !ok {
		return messaging.Topology{}, fmt.Errorf("the region %q has no broker of its own", region)
	}
	t := all(paymentDeadline, regions...)
	i := slices.IndexFunc(t.Exchanges, func(x messaging.Exchange) bool { return x.Name == OrdersEvents })
	t.Exchanges[i].Federated = true
	t.Users = append(t.Users, messaging.FederationUser(FederationUser, OrdersEvents))
	return t, nil
}
