// Package owner names the process that what a test starts belongs to, so that
// scripts/lib.sh can remove what a process that is gone has left, and nothing else.
package owner

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
)

// Name is PLACE-PID of this process. The place stands for the boot of the machine and
// the namespace of process ids: a pid means something only there. It is "nowhere"
// without /proc, and then only age tells what may be removed.
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
