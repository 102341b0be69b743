#include "fault_handler.hpp"

#include <ucontext.h>

#include <cerrno>
#include <csignal>
#include <mutex>

#include "../../failure.hpp"

namespace spillway::device::host {
namespace {

// Initial-exec: a handler may not allocate, as other models do on a thread's first access.
__attribute__((tls_model("initial-exec"))) thread_local FaultListener* listening = nullptr;

struct sigaction before_segv;
struct sigaction before_bus;

bool is_write(const void* context) {
#if defined(__x86_64__)
  // Bit 1 of the page fault's error code (Intel SDM volume 3, 4.7).
  return (static_cast<const ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
#else
  (void)context;
  return false;
#endif
}

void pass_on(int signal, siginfo_t* info, void* context) {
  const struct sigaction& before = signal == SIGSEGV ? before_segv : before_bus;
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
    // The access is tried again, and ends the process as it would have.
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    sigaction(signal, &standard, nullptr);
  } else {
    before.sa_handler(signal);
  }
}

void on_fault(int signal, siginfo_t* info, void* context) {
  FaultListener* listener = listening;
  // A signal sent by somebody (si_code <= 0) is no fault.
  if (listener == nullptr || info->si_code <= 0) {
    pass_on(signal, info, context);
    return;
  }
  const int error = errno;
  if (!listener->fault(static_cast<uint8_t*>(info->si_addr), is_write(context))) siglongjmp(listener->escape, 1);
  errno = error;
}

void install() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  sigemptyset(&action.sa_mask);
  // NODEFER: siglongjmp leaves the handler without returning. ONSTACK: Node runs some threads with a small stack.
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  if (sigaction(SIGSEGV, &action, &before_segv) != 0 || sigaction(SIGBUS, &action, &before_bus) != 0) {
    fail_system("sigaction", errno, "checking kernels needs a handler for page faults");
  }
}

}  // namespace

FaultScope::FaultScope(FaultListener& listener) {
  static std::once_flag once;
  std::call_once(once, install);
  listening = &listener;
}

FaultScope::~FaultScope() { listening = nullptr; }

}  // namespace spillway::device::host
