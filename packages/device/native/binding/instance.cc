#include "instance.hpp"

#include <memory>
#include <system_error>
#include <thread>

namespace spillway::device::binding {

Settler::Settler(Napi::Env env) {
  napi_value name = Napi::String::New(env, "spillway");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr,
                                      on_javascript_thread, &channel_->function) != napi_ok) {
    throw Napi::Error::New(env);
  }
  napi_unref_threadsafe_function(env, channel_->function);
  // Hooks run in reverse order: this one before the function's own.
  napi_add_env_cleanup_hook(
      env, [](void* channel) { static_cast<Channel*>(channel)->close(); }, channel_.get());
}

// The instance, and this with it, ends after the environment's hooks have run.
Settler::~Settler() { channel_->close(); }

void Settler::Channel::close() {
  std::lock_guard lock(mutex);
  if (function) napi_release_threadsafe_function(function, napi_tsfn_abort);
  function = nullptr;
}

Settler::Pending Settler::open(Napi::Env env) {
  auto deferred = Napi::Promise::Deferred::New(env);
  auto* ticket = new Ticket(this, deferred);
  if (pending_++ == 0) napi_ref_threadsafe_function(env, channel_->function);
  return {ticket, deferred.Promise()};
}

void Settler::cancel(Napi::Env env, Ticket* ticket) {
  delete ticket;
  if (--pending_ == 0) napi_unref_threadsafe_function(env, channel_->function);
}

void Settler::on_javascript_thread(napi_env raw, napi_value, void*, void* data) {
  std::unique_ptr<Ticket> ticket(static_cast<Ticket*>(data));
  if (raw == nullptr) return;  // the environment is being torn down
  Napi::Env env(raw);
  Napi::HandleScope scope(env);
  Settler* settler = ticket->settler_;
  if (--settler->pending_ == 0) napi_unref_threadsafe_function(raw, ticket->channel_->function);
  try {
    try {
      ticket->finish_(env, ticket->deferred_);
    } catch (const StatusError& failure) {
      ticket->deferred_.Reject(to_javascript(env, failure.error()).Value());
    } catch (const Napi::Error& failure) {
      ticket->deferred_.Reject(failure.Value());
    }
  } catch (const Napi::Error&) {
    // A worker being terminated still gets here, but JavaScript runs there no more: nobody is left to tell.
  }
}

void Settler::Ticket::settle(Finish finish) {
  finish_ = std::move(finish);
  std::shared_ptr<Channel> channel = channel_;
  std::lock_guard lock(channel->mutex);
  // From a successful call on, the ticket belongs to the JavaScript thread.
  if (channel->function == nullptr ||
      napi_call_threadsafe_function(channel->function, this, napi_tsfn_nonblocking) != napi_ok) {
    delete this;
  }
}

Napi::Value make_handle(Napi::Env env, Object* object) {
  auto* box = new spillway_box{sizeof(spillway_box), object->kind(), reinterpret_cast<spillway_object*>(object)};
  auto external = Napi::External<spillway_box>::New(env, box, [](Napi::BasicEnv, spillway_box* dead) {
    if (dead->object) reinterpret_cast<Object*>(dead->object)->release();
    delete dead;
  });
  external.TypeTag(&kBoxTag);
  return external;
}

Napi::Value make_on_thread(Napi::Env env, const char* call, std::function<Object*()> make) {
  Settler& settler = instance(env).settler;
  Settler::Pending pending = settler.open(env);
  Settler::Ticket* ticket = pending.ticket;
  try {
    std::thread([ticket, make = std::move(make)]() mutable {
      Ref<Object> object;
      spillway_error error = empty_error();
      guard(&error, [&] { object = Ref<Object>::adopt(make()); });
      make = nullptr;
      ticket->settle([object = std::move(object), error](Napi::Env env, const Napi::Promise::Deferred& deferred) {
        if (!object) throw StatusError(error);
        deferred.Resolve(make_handle(env, Ref<Object>(object).leave()));
      });
    }).detach();
  } catch (const std::system_error& failure) {
    settler.cancel(env, ticket);
    fail_system(call, failure.code().value(), "the system gives no more threads");
  }
  return pending.promise;
}

}  // namespace spillway::device::binding
