package e2e_test

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// A badRequest has the bytes of a request, which may be invalid HTTP. {id} stands for the id of
// a paid order, {ID} for the same id in capitals.
type badRequest struct {
	category string
	bytes    string
	status   int
	field    string // the only field that the problem names
}

const (
	asJSON  = "Content-Type: application/json"
	bearer  = "Bearer " + operatorToken
	limit   = 64 << 10 // of a body, in bytes
	usedKey = "a-key-that-was-used"
	nobody  = "01932b6e-7c00-7000-8000-0000000fffff"
)

// request makes a request of well-formed HTTP.
func request(methodAndPath, body string, headers ...string) string {
	headers = append(headers, "Host: localhost", "Connection: close", fmt.Sprintf("Content-Length: %d", len(body)))
	return methodAndPath + " HTTP/1.1\r\n" + strings.Join(headers, "\r\n") + "\r\n\r\n" + body
}

func fetch(path string) string { return request("GET "+path, "") }

func post(body string, headers ...string) string {
	return request("POST /v1/orders", body, append(headers, asJSON)...)
}

// goodFields are the fields of a valid order, each with its JSON.
var goodFields = [][2]string{
	{"customer_id", `"ada"`}, {"region", `"eu"`}, {"tier", `"standard"`}, {"payment_token", `"tok_ok"`},
	{"items", `[{"sku":"mug","quantity":2}]`},
}

// order is a valid order with another JSON value in one field; "" leaves the field out.
func order(field, value string) string {
	var body []string
	for _, f := range goodFields {
		if f[0] == field {
			f[1] = value
		}
		if f[1] != "" {
			body = append(body, fmt.Sprintf("%q:%s", f[0], f[1]))
		}
	}
	return "{" + strings.Join(body, ",") + "}"
}

var goodOrder = order("", "")

// having posts an order with one wrong field.
func having(field, value string) string { return post(order(field, value)) }

// changed posts an order of which a part is replaced.
func changed(part, with string) string { return post(strings.Replace(goodOrder, part, with, 1)) }

func quantity(value string) string { return having("items", `[{"sku":"mug","quantity":`+value+`}]`) }

// manyItems has one item more than an order may have.
var manyItems = func() string {
	var items []string
	for i := range 51 {
		items = append(items, fmt.Sprintf(`{"sku":"mug-%d","quantity":1}`, i))
	}
	return strings.Join(items, ",")
}()

const goodPrice = `{"name":"Mug","price":{"amount_minor":1390,"currency":"EUR"}}`

func put(sku, body, authorization string) string {
	return request("PUT /v1/prices/"+sku, body, asJSON, "Authorization: "+authorization)
}

// price is a valid price of which a part is replaced.
func price(part, with string) string {
	return put("mug", strings.Replace(goodPrice, part, with, 1), bearer)
}

func capture(key, order, token string) string {
	return request("POST /v1/captures", `{"order_id":"`+order+`","payment_token":"`+token+`","amount":{"amount_minor":1,"currency":"EUR"}}`,
		asJSON, "Idempotency-Key: "+key)
}

// utf16 encodes ASCII in UTF-16.
func utf16(ascii string) string { return strings.Join(strings.Split(ascii, ""), "\x00") + "\x00" }

func long(n int) string { return strings.Repeat("x", n) }

// raw has requests to every server, which are refused before a route is found.
var raw = []badRequest{
	{"malformed HTTP", "GET /\r\n\r\n", 400, ""}, // HTTP/0.9
	{"malformed HTTP", "nonsense\r\n\r\n", 400, ""},
	{"malformed HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, ""}, // TLS
	{"malformed HTTP", "GET /readyz HTTP/9.9\r\nHost: localhost\r\n\r\n", 505, ""},
	{"malformed HTTP", "GET /readyz HTTP/1.1\r\n\r\n", 400, ""}, // without Host
	{"malformed HTTP", "GET /readyz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, ""},
	{"malformed HTTP", "GET /readyz HTTP/1.1\r\nHost: a b\r\n\r\n", 400, ""},
	{"malformed HTTP", "GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, ""},
	{"malformed HTTP", "GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, ""},
	{"malformed HTTP", request("GET\u00e9 /healthz", ""), 400, ""},
	{"malformed HTTP", "GE\x01T / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, ""},
	{"malformed HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Nul: a\x00b\r\n\r\n", 400, ""},
	{"malformed HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n", 400, ""},
	{"malformed HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\nA name: y\r\n\r\n", 400, ""},
	{"large header", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: " + long(32<<10) + "\r\n\r\n", 431, ""},
	{"large header", "GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X: y\r\n", 8<<10) + "\r\n", 431, ""},
	{"large header", "GET /" + long(32<<10) + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 431, ""},
	{"smuggling", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400, ""},
	{"smuggling", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400, ""},
	{"smuggling", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +2\r\n\r\n{}", 400, ""},
	{"smuggling", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", 400, ""},
	{"smuggling", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, ""},
	{"smuggling", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, ""},
	{"smuggling", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501, ""},
	{"unknown path", fetch("/"), 404, ""},
	{"unknown path", fetch("/.git/config"), 404, ""},
	{"unknown path", fetch("/v1/../../../etc/passwd"), 404, ""},
	{"unknown path", fetch("//evil.example/%2e%2e"), 404, ""},
	{"unknown path", fetch("/debug/pprof/"), 404, ""},
	{"unknown path", fetch("/readyz/"), 404, ""},
	{"unknown path", fetch("/readyz%00"), 404, ""},
	{"unknown path", fetch("*"), 404, ""},
	{"unknown path", fetch("/metrics"), 404, ""},
	{"unknown path", request("DELETE /metrics", ""), 404, ""},
	{"wrong host", request("CONNECT internal:5432", ""), 421, ""},
	{"wrong host", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 421, ""},
	{"wrong host", "GET / HTTP/1.0\r\n\r\n", 421, ""},
	{"wrong host", "GET /v1/orders HTTP/1.1\r\nHost: evil.example:8081\r\n\r\n", 421, ""},
	{"wrong host", "GET http://evil.example/v1/orders HTTP/1.1\r\nHost: localhost\r\n\r\n", 421, ""},
	{"wrong host", "GET /v1/prices HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 421, ""},
	{"wrong host", "GET /v1/prices HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", 421, ""},
	{"wrong method", request("POST /readyz", "{}", asJSON), 405, ""},
	{"wrong method", request("TRACE /healthz", "", "Cookie: secret"), 405, ""},
	{"wrong method", request("get /healthz", ""), 405, ""},
}

var toOrders = []badRequest{
	{"body", post(""), 400, ""},
	{"body", post("  \r\n"), 400, ""},
	{"body", post("order please"), 400, ""},
	{"body", post("null"), 400, ""},
	{"body", post("[" + goodOrder + "]"), 400, ""},
	{"body", post(`"` + long(9) + `"`), 400, ""},
	{"body", post("42"), 400, ""},
	{"body", post(goodOrder[:len(goodOrder)-1]), 400, ""},
	{"body", post(goodOrder + "x"), 400, ""},
	{"body", post(goodOrder + goodOrder), 400, ""},
	{"body", post(goodOrder + "\x00"), 400, ""},
	{"body", post("\xef\xbb\xbf" + goodOrder), 400, ""}, // a byte order mark
	{"body", post("{'region':'eu'}"), 400, ""},
	{"body", post(`{"items":` + strings.Repeat("[", 30_000)), 400, ""},
	{"body", post(strings.Repeat(`{"items":`, 5_000)), 400, ""},
	{"body", post(utf16(goodOrder)), 400, ""},
	{"body", post(`{}`), 422, "customer_id,items,payment_token,region,tier"},
	{"large body", post(goodOrder + strings.Repeat(" ", limit+1-len(goodOrder))), 413, ""},
	{"large body", having("customer_id", `"`+long(limit)+`"`), 413, ""},
	{"large body", "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n" + asJSON + "\r\nContent-Length: 99999999999\r\n\r\n" + long(limit+1), 413, ""},
	{"large body", "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n" + asJSON + "\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n" + long(limit+1), 413, ""},
	{"cut off", "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n" + asJSON + "\r\nContent-Length: 9999\r\n\r\n" + goodOrder, 400, ""},
	{"cut off", "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n" + asJSON + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"reg", 400, ""},
	{"chunks", "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n" + asJSON + "\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n" + goodOrder, 400, ""},
	{"chunks", "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n" + asJSON + "\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n" + goodOrder, 400, ""},
	{"chunks", "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n" + asJSON + "\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + goodOrder, 400, ""},
	{"chunks", "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n" + asJSON + "\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}no end\r\n0\r\n\r\n", 400, ""},

	{"smuggling", "POST /v1/orders HTTP/1.1\r\nHost: localhost\r\n" + asJSON + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + post(goodOrder), 400, ""},
	{"smuggling", "POST /v1/orders HTTP/1.0\r\nHost: localhost\r\n" + asJSON + "\r\nTransfer-Encoding: chunked\r\n\r\n" + post(goodOrder), 400, ""},

	{"strictness", changed(`"region"`, `"total":1,"region"`), 400, "total"},
	{"strictness", changed(`"sku"`, `"price":1,"sku"`), 400, "price"},
	{"strictness", changed(`"region"`, `"Region"`), 400, "Region"},
	{"strictness", changed(`"region"`, `"region":"us","region"`), 400, "region"},
	{"strictness", changed(`"region"`, `"REGION":"us","region"`), 400, "REGION"},
	{"strictness", changed(`"sku"`, `"\u017fku":"tshirt","sku"`), 400, "items[0].\u017fku"},
	{"strictness", changed(`"quantity"`, `"quantity":1,"quantity"`), 400, "items[0].quantity"},

	{"content type", request("POST /v1/orders", goodOrder), 415, ""},
	{"content type", request("POST /v1/orders", goodOrder, "Content-Type: text/plain"), 415, ""}, // a page of another origin may send it
	{"content type", request("POST /v1/orders", goodOrder, "Content-Type: application/x-www-form-urlencoded"), 415, ""},
	{"content type", request("POST /v1/orders", goodOrder, "Content-Type: multipart/form-data; boundary=x"), 415, ""},
	{"content type", request("POST /v1/orders", goodOrder, "Content-Type: application/jsonp"), 415, ""},
	{"content type", request("POST /v1/orders", goodOrder, "Content-Type: application/json; charset"), 415, ""},
	{"content type", request("POST /v1/orders", utf16(goodOrder), asJSON+"; charset=utf-16"), 415, ""},
	{"content type", request("POST /v1/orders", goodOrder, asJSON+"; charset=iso-8859-1"), 415, ""},
	{"content type", post(goodOrder, "Content-Encoding: gzip"), 415, ""},

	{"customer", having("customer_id", ""), 422, "customer_id"},
	{"customer", having("customer_id", "null"), 422, "customer_id"},
	{"customer", having("customer_id", `""`), 422, "customer_id"},
	{"customer", having("customer_id", "7"), 400, "customer_id"},
	{"customer", having("customer_id", `{"$ne":""}`), 400, "customer_id"},
	{"customer", having("customer_id", `"`+long(65)+`"`), 422, "customer_id"},
	{"customer", having("customer_id", `"ada\r\nBcc: all@example.com"`), 422, "customer_id"},
	{"customer", having("customer_id", `"ada@evil.example,"`), 422, "customer_id"},
	{"customer", having("customer_id", `"a..b"`), 422, "customer_id"}, // makes no valid mail address
	{"customer", having("customer_id", `"a."`), 422, "customer_id"},
	{"customer", having("customer_id", `".a"`), 422, "customer_id"},
	{"customer", having("customer_id", `"."`), 422, "customer_id"},
	{"customer", having("customer_id", `"../../etc/passwd"`), 422, "customer_id"},
	{"customer", having("customer_id", `"ada\u0000"`), 422, "customer_id"},
	{"customer", having("customer_id", `"ada\n"`), 422, "customer_id"},
	{"customer", having("customer_id", `"\u0430da"`), 422, "customer_id"}, // looks like ada
	{"customer", having("customer_id", `"'; DROP TABLE orders; --"`), 422, "customer_id"},
	{"customer", having("customer_id", "\"ada\xff\""), 400, "customer_id"},
	{"customer", having("customer_id", "\"ada\x00\""), 400, ""},
	{"region", having("region", ""), 422, "region"},
	{"region", having("region", `"mars"`), 422, "region"},
	{"region", having("region", `"EU"`), 422, "region"},
	{"region", having("region", `"eu.express.#"`), 422, "region"}, // characters of a routing key
	{"region", having("region", `["eu"]`), 400, "region"},
	{"tier", having("tier", ""), 422, "tier"},
	{"tier", having("tier", `"gold"`), 422, "tier"},
	{"tier", having("tier", `true`), 400, "tier"},
	{"token", having("payment_token", ""), 422, "payment_token"},
	{"token", having("payment_token", `""`), 422, "payment_token"},
	{"token", having("payment_token", `4111111111111111`), 400, "payment_token"},
	{"token", having("payment_token", `"`+long(129)+`"`), 422, "payment_token"},
	{"token", having("payment_token", `"tok_\u0000ok"`), 422, "payment_token"},
	{"token", having("payment_token", `"tok_ok\r\nX-Admin: yes"`), 422, "payment_token"},
	{"token", having("payment_token", "\"tok_\xc0\x80\""), 400, "payment_token"},
	{"token", having("payment_token", `"tok_\ud800"`), 400, "payment_token"},
	{"items", having("items", ""), 422, "items"},
	{"items", having("items", "null"), 422, "items"},
	{"items", having("items", "[]"), 422, "items"},
	{"items", having("items", "{}"), 400, "items"},
	{"items", having("items", `["mug"]`), 400, "items"},
	{"items", having("items", "[null]"), 422, "items[0].quantity,items[0].sku"},
	{"items", having("items", `[{"sku":"mug","quantity":1},{"sku":"mug","quantity":1}]`), 422, "items[1].sku"},
	{"items", having("items", "["+manyItems+"]"), 422, "items"},
	{"items", having("items", `[{"sku":"unicorn","quantity":1},{"sku":"mug","quantity":1},{"sku":"MUG","quantity":1}]`), 422, "items[0].sku,items[2].sku"},
	{"items", having("items", `[{"sku":"mug\u0000","quantity":1}]`), 422, "items[0].sku"},
	{"items", having("items", `[{"sku":"`+long(129)+`","quantity":1}]`), 422, "items[0].sku"},
	{"items", having("items", `[{"sku":7,"quantity":1}]`), 400, "items.sku"},
	{"quantity", having("items", `[{"sku":"mug"}]`), 422, "items[0].quantity"},
	{"quantity", quantity("0"), 422, "items[0].quantity"},
	{"quantity", quantity("-0"), 422, "items[0].quantity"},
	{"quantity", quantity("-1"), 422, "items[0].quantity"},
	{"quantity", quantity("1001"), 422, "items[0].quantity"},
	{"quantity", quantity("9223372036854775807"), 422, "items[0].quantity"},
	{"quantity", quantity("9223372036854775808"), 400, "items.quantity"},
	{"quantity", quantity("1e400"), 400, "items.quantity"},
	{"quantity", quantity("1e3"), 400, "items.quantity"},
	{"quantity", quantity("1.5"), 400, "items.quantity"},
	{"quantity", quantity(`"1"`), 400, "items.quantity"},
	{"quantity", quantity("NaN"), 400, ""},
	{"quantity", quantity("0x10"), 400, ""},
	{"quantity", quantity("01"), 400, ""},

	{"idempotency key", post(goodOrder, "Idempotency-Key: "+long(256)), 400, "Idempotency-Key"},
	{"idempotency key", post(goodOrder, "Idempotency-Key:"), 400, "Idempotency-Key"},
	{"idempotency key", post(goodOrder, "Idempotency-Key:  \t "), 400, "Idempotency-Key"},
	{"idempotency key", post(goodOrder, "Idempotency-Key: \xff"), 400, "Idempotency-Key"},
	{"idempotency key", post(goodOrder, "Idempotency-Key: a\tb"), 400, "Idempotency-Key"},
	{"idempotency key", post(goodOrder, "Idempotency-Key: a", "Idempotency-Key: b"), 400, "Idempotency-Key"},
	{"idempotency key", post(strings.Replace(goodOrder, "mug", "tshirt", 1), "Idempotency-Key: "+usedKey), 409, "Idempotency-Key"},

	{"id", fetch("/v1/orders/42"), 404, ""},
	{"id", fetch("/v1/orders/" + nobody), 404, ""},
	{"id", fetch("/v1/orders/urn:uuid:{id}"), 404, ""},
	{"id", fetch("/v1/orders/{id}%00"), 404, ""},
	{"id", fetch("/v1/orders/{id}%20"), 404, ""},
	{"id", fetch("/v1/orders/{id}/"), 404, ""},
	{"id", fetch("/v1/orders/{id}%2fcancel"), 404, ""},
	{"id", fetch("/v1/orders/..%2f..%2fetc%2fpasswd"), 404, ""},
	{"not clean", fetch("/v1/orders/../orders/{id}"), 307, ""},
	{"id", fetch("/v1/orders/%27%20OR%201=1"), 404, ""},
	{"id", fetch("/v1/orders/%ff%fe"), 404, ""},
	{"id", fetch("/V1/orders/{id}"), 404, ""},
	{"id", request("POST /v1/orders/"+nobody+"/cancel", ""), 404, ""},
	{"id", request("POST /v1/orders/%00/cancel", ""), 404, ""},
	{"id", request("POST /v1/orders/{id}%2fcancel", ""), 405, ""},
	{"not clean", request("POST /v1//orders", goodOrder, asJSON), 307, ""},
	{"id", request("POST /v1/orders/", goodOrder, asJSON), 404, ""},
	{"query", fetch("/v1/orders?limit=0"), 400, "limit"},
	{"query", fetch("/v1/orders?limit=-1"), 400, "limit"},
	{"query", fetch("/v1/orders?limit=1000000000"), 400, "limit"},
	{"query", fetch("/v1/orders?limit=99999999999999999999"), 400, "limit"},
	{"query", fetch("/v1/orders?limit=abc"), 400, "limit"},
	{"harmless", fetch("/v1/orders?status=&limit=&cursor="), 200, ""},
	{"query", fetch("/v1/orders?limit=1&limit=2"), 400, "limit"},
	{"query", fetch("/v1/orders?status=lost"), 400, "status"},
	{"query", fetch("/v1/orders?status=paid&status=placed"), 400, "status"},
	{"query", fetch("/v1/orders?status=%00"), 400, "status"},
	{"query", fetch("/v1/orders?cursor=nonsense"), 400, "cursor"},
	{"query", fetch("/v1/orders?cursor={id}%00"), 400, "cursor"},
	{"query", fetch("/v1/orders?cursor=%27%3b--"), 400, "cursor"},
	{"query", fetch("/v1/orders?status=paid;limit=1"), 400, ""},
	{"query", fetch("/v1/orders?status=%zz"), 400, ""},
	{"query", fetch("/v1/orders?stauts=paid&limit=x"), 400, "limit,stauts"},
	{"harmless", fetch("/v1/orders/{ID}"), 200, ""},
	{"harmless", fetch("/v1/orders?cursor=" + uuid.Max.String()), 200, ""},         // forged
	{"harmless", fetch("/v1/orders?status=declined&limit=1&cursor={id}"), 200, ""}, // of another query
	{"harmless", post(goodOrder, "Idempotency-Key: "+usedKey), 200, ""},            // the same request again
	{"wrong method", request("PUT /v1/orders", goodOrder, asJSON), 405, ""},
	{"wrong method", request("DELETE /v1/orders/{id}", ""), 405, ""},
	{"foreign page", request("POST /v1/orders/{id}/cancel", "", "Sec-Fetch-Site: cross-site"), 403, ""},
	{"foreign page", request("POST /v1/orders/{id}/cancel", "", "Origin: http://localhost.evil.example"), 403, ""},
	{"foreign page", post(goodOrder, "Origin: null"), 403, ""},
	{"wrong method", request("GET /v1/orders/{id}/cancel", ""), 405, ""},
	{"wrong method", request("GET /v1/orders/{id}/cancel", "", "X-HTTP-Method-Override: POST"), 405, ""},
}

var toPricing = []badRequest{
	{"foreign page", request("PUT /v1/prices/mug", goodPrice, asJSON, "Authorization: "+bearer, "Sec-Fetch-Site: same-site"), 403, ""},
	{"operator's token", request("PUT /v1/prices/mug", goodPrice, asJSON), 401, ""},
	{"operator's token", put("mug", goodPrice, ""), 401, ""},
	{"operator's token", put("mug", goodPrice, "Bearer"), 401, ""},
	{"operator's token", put("mug", goodPrice, "Bearer wrong"), 401, ""},
	{"operator's token", put("mug", goodPrice, bearer[:len(bearer)-1]), 401, ""},
	{"operator's token", put("mug", goodPrice, bearer+"x"), 401, ""},
	{"operator's token", put("mug", goodPrice, strings.ToUpper(bearer)), 401, ""},
	{"operator's token", put("mug", goodPrice, operatorToken), 401, ""},
	{"operator's token", put("mug", goodPrice, "Basic "+operatorToken), 401, ""},
	{"operator's token", put("mug", goodPrice, "Bearer "+bearer), 401, ""},
	{"operator's token", put("mug", goodPrice, "Bearer \xff\xfe"), 401, ""},
	{"operator's token", request("PUT /v1/prices/mug?access_token="+operatorToken, goodPrice, asJSON), 401, ""},
	{"operator's token", request("PUT /v1/prices/mug", "nonsense", "Authorization: Bearer wrong"), 401, ""}, // and no other error
	{"body", put("mug", "", bearer), 400, ""},
	{"body", put("mug", "[]", bearer), 400, ""},
	{"body", put("mug", "null", bearer), 400, ""},
	{"body", put("mug", goodPrice+goodPrice, bearer), 400, ""},
	{"body", put("mug", "{}", bearer), 422, "name,price.amount_minor,price.currency"},
	{"large body", price("Mug", long(limit)), 413, ""},
	{"content type", request("PUT /v1/prices/mug", goodPrice, "Authorization: "+bearer), 415, ""},
	{"content type", request("PUT /v1/prices/mug", goodPrice, "Authorization: "+bearer, asJSON, "Content-Encoding: gzip"), 415, ""},
	{"strictness", price(`"name"`, `"sku":"tshirt","name"`), 400, "sku"},
	{"strictness", price(`"name"`, `"NAME"`), 400, "NAME"},
	{"strictness", price(`1390`, `1390,"amount_minor":1`), 400, "price.amount_minor"},
	{"price", price("1390", "-1390"), 422, "price.amount_minor"},
	{"price", price("1390", "0"), 422, "price.amount_minor"},
	{"price", price("1390", "100000001"), 422, "price.amount_minor"},
	{"price", price("1390", "9223372036854775807"), 422, "price.amount_minor"},
	{"price", price("1390", "9223372036854775808"), 400, "price.amount_minor"},
	{"price", price("1390", "13.90"), 400, "price.amount_minor"},
	{"price", price("1390", `"1390"`), 400, "price.amount_minor"},
	{"price", price("EUR", "USD"), 422, "price.currency"},
	{"price", price("EUR", "eur"), 422, "price.currency"},
	{"price", price("EUR", ""), 422, "price.currency"},
	{"price", price(`{"amount_minor":1390,"currency":"EUR"}`, "1390"), 400, "price"},
	{"name", price("Mug", ""), 422, "name"},
	{"name", price("Mug", long(101)), 422, "name"},
	{"name", price("Mug", `Mug\u0000`), 422, "name"},
	{"name", price("Mug", `Mug\u001b[2J`), 422, "name"},
	{"name", price("Mug", "Mug\xff"), 400, "name"},
	{"SKU", put("Mug", goodPrice, bearer), 422, "sku"},
	{"SKU", put("%00", goodPrice, bearer), 422, "sku"},
	{"SKU", put("%ff", goodPrice, bearer), 422, "sku"},
	{"SKU", put("-mug", goodPrice, bearer), 422, "sku"},
	{"SKU", put("mug%0a", goodPrice, bearer), 422, "sku"},
	{"SKU", put("..%2fmug", goodPrice, bearer), 422, "sku"},
	{"SKU", put("m%D1%83g", goodPrice, bearer), 422, "sku"}, // with a Cyrillic letter
	{"SKU", put(long(65), goodPrice, bearer), 422, "sku"},
	{"SKU", put("", goodPrice, bearer), 404, ""},
	{"SKU", put("a/b", goodPrice, bearer), 404, ""},
	{"not clean", put("../prices/mug", goodPrice, bearer), 307, ""},
	{"wrong method", request("POST /v1/prices", goodPrice, asJSON, "Authorization: "+bearer), 405, ""},
	{"wrong method", request("DELETE /v1/prices/mug", "", "Authorization: "+bearer), 405, ""},
}

// toSandbox has requests that can never be carried out: the answer must not mean that billing
// should try again.
var toSandbox = []badRequest{
	{"provider", capture("k", "o-1", "tok_unheard_of"), 422, "payment_token"},
	{"provider", capture("k", "o-1", `tok_\u0000ok`), 422, "payment_token"},
	{"provider", capture("k", "o-1", "tok_\xff"), 400, "payment_token"},
	{"provider", capture("\xff", "o-1", "tok_ok"), 422, ""},
	{"provider", capture("\xff", "o-1", "tok_flaky_1"), 422, ""},
	{"provider", capture("k", `a\u0000b`, "tok_ok"), 422, ""},
	{"provider", capture("", "o-1", "tok_ok"), 400, "Idempotency-Key"},
	{"provider", strings.Replace(capture("k", "o-1", "tok_ok"), "captures", "refunds", 1), 400, "payment_token"},
	{"provider", fetch("/v1/captures?order_id=%00"), 422, ""},
}
