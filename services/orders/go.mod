module example.com/orderflow/services/orders

go 1.26.0

exclude github.com/Azure/go-ansiterm v0.0.0-20261006220739-8c912ac31dd4

require (
	example.com/orderflow/contract v0.0.0
	example.com/orderflow/pkg/messaging v0.0.0
	example.com/orderflow/pkg/service v0.0.0
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/pgx/v5 v5.12.0 // indirect
	github.com/prometheus/client_golang v1.25.0 // indirect
	github.com/stretchr/testify v1.12.1 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.uber.org/zap v1.28.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace (
	example.com/orderflow/contract => ../../contract
	example.com/orderflow/pkg/messaging => ../../pkg/messaging
	example.com/orderflow/pkg/service => ../../pkg/service
)
