// Package owner identifies the process that has started a container or volume, so that
// scripts/lib.sh can remove what an ended process has left, and nothing else.
package owner

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
)

// Name is PLACE-PID of this process. PLACE identifies the boot of the machine and the
// namespace of process ids, in which a pid is unique. Without /proc it is "nowhere"; then
// scripts/lib.sh goes by age alone.
func Name() string { return fmt.Sprintf("%s-%d", place(), os.Getpid()) }

func place() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "nowhere"
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "nowhere"
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(string(boot)) + " " + namespace + "\n"))
	return fmt.Sprintf("%x", sum[:4])
}
