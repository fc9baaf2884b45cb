module example.com/orderflow/contract

go 1.26

exclude github.com/Azure/go-ansiterm v0.0.0-20261006220739-8c912ac31dd4

require example.com/orderflow/pkg/messaging v0.0.0

require github.com/google/uuid v1.6.0 // indirect

replace example.com/orderflow/pkg/messaging => ../pkg/messaging
