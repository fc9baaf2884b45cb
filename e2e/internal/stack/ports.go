package stack

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// proxyPort is toxiproxy's own port, where its client controls it.
const proxyPort = "PROXY_PORT"

// choosePorts finds free ports for all published ports of the compose files: one for a server,
// and consecutive ones for the replicas of a service.
func choosePorts(root string, options Options) (map[string]string, error) {
	names, err := portVariables(root)
	if err != nil {
		return nil, err
	}
	ports := map[string]string{}
	for _, name := range names {
		n := 1
		if name == "ORDERS_PORT" || name == "PRICING_PORT" {
			n = max(options.Replicas, 1)
		}
		first, free, err := listenInARow(n)
		if err != nil {
			return nil, err
		}
		defer free() // when all are found
		ports[name] = strconv.Itoa(first)
		if n > 1 {
			ports[name] = fmt.Sprintf("%d-%d", first, first+n-1)
		}
	}
	return ports, nil
}

// portVariables are the variables of ports in the compose file and in all overlays, and
// the proxy's.
func portVariables(root string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(root, "deploy", "compose", "*.yaml"))
	if err != nil {
		return nil, err
	}
	names, seen := []string{proxyPort}, map[string]bool{}
	for _, file := range files {
		content, err := os.ReadFile(file) //nolint:gosec // the repository's own
		if err != nil {
			return nil, err
		}
		for _, match := range regexp.MustCompile(`\$\{([A-Z_]+_PORT):-`).FindAllStringSubmatch(string(content), -1) {
			if name := match[1]; !seen[name] {
				names, seen[name] = append(names, name), true
			}
		}
	}
	return names, nil
}

// firstPort is the first of a range "first-last", or the only port.
func firstPort(ports string) int {
	first, _, _ := strings.Cut(ports, "-")
	n, _ := strconv.Atoi(first) // choosePorts writes numbers
	return n
}

// listenInARow listens on n ports, one next to the other, until free is called.
func listenInARow(n int) (first int, free func(), err error) {
	for range 50 {
		var frees []func()
		free := func() {
			for _, f := range frees {
				f()
			}
		}
		first, f, err := listen(0)
		for next := first + 1; err == nil; next++ {
			if frees = append(frees, f); len(frees) == n {
				return first, free, nil
			}
			_, f, err = listen(next)
		}
		free()
	}
	return 0, nil, fmt.Errorf("no %d free ports in a row", n)
}

func listen(port int) (int, func(), error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0, nil, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, func() { _ = l.Close() }, nil
}
