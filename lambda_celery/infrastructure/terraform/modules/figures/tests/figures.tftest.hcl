# terraform -chdir=modules/figures init && terraform -chdir=modules/figures test

variables {
  name                               = "shop"
  app                                = "proj.celery:app"
  runtime                            = "python3.13"
  architecture                       = "arm64"
  package_type                       = "zip"
  handler                            = "lambda_runtime.handler"
  memory_size                        = 1024
  timeout                            = 60
  batch_size                         = 10
  maximum_batching_window_in_seconds = 0
  functions                          = "one"
  queues                             = { celery = {} }
  message_retention_seconds          = 345600
  dlq_message_retention_seconds      = 1209600
  max_receive_count                  = 5
  results                            = false
  schedules                          = true
  ses_rate                           = false
  oldest_message_age_seconds         = 900
  layers                             = []
  tags                               = {}
  snap_start                         = false
  alias                              = "live"
  environment                        = {}
  log_retention_days                 = 30
  local_existing_package             = "function.zip"
}

run "visibility_is_six_times_the_timeout" {
  command = plan

  assert {
    condition     = output.queues.celery.visibility_timeout_seconds == 360
    error_message = "The visibility time-out is not 6 x 60 seconds."
  }
}

run "a_batch_over_ten_has_a_window_of_a_second" {
  command = plan

  variables {
    batch_size = 11
  }

  assert {
    condition     = output.queues.celery.maximum_batching_window_in_seconds == 1
    error_message = "The window is not a second."
  }

  assert {
    condition     = output.queues.celery.visibility_timeout_seconds == 361
    error_message = "The window is not part of the visibility time-out."
  }
}

run "records_stand_for_both_retentions_and_one_more" {
  command = plan

  assert {
    condition     = output.idempotency_ttl_seconds == 1987200 && output.payload_days == 36
    error_message = "The record's life is not 4 + 14 + 4 + 1 days, or the payload's not 13 more."
  }
}

run "payloads_stay_for_whole_days" {
  command = plan

  variables {
    message_retention_seconds = 60
    schedules                 = false
  }

  assert {
    condition     = output.payload_days == 16
    error_message = "15 days and 2 minutes are not 16 days."
  }
}

run "one_function_has_the_longest_timeout_and_so_have_all_its_queues" {
  command = plan

  variables {
    queues = { mail = { timeout = 300 }, reports = {} }
  }

  assert {
    condition     = output.functions.all.timeout == 300
    error_message = "The function's time-out is not its queues' longest."
  }

  assert {
    condition     = output.queues.reports.visibility_timeout_seconds == 1800
    error_message = "The other queue's visibility time-out does not follow from the function's."
  }
}

run "each_queue_has_its_own_timeout_with_its_own_function" {
  command = plan

  variables {
    functions = "each"
    queues    = { mail = { timeout = 300 }, reports = {} }
  }

  assert {
    condition     = output.functions.reports.timeout == 60 && output.queues.reports.visibility_timeout_seconds == 360
    error_message = "The function does not go by its own queue."
  }

  assert {
    condition     = output.functions.mail.name == "shop-mail"
    error_message = "The function is not named for its queue."
  }
}

run "a_fifo_queue_has_small_batches_and_no_window" {
  command = plan

  variables {
    batch_size = 100
    queues     = { orders = { fifo = true } }
  }

  assert {
    condition     = output.queues.orders.batch_size == 10 && output.queues.orders.maximum_batching_window_in_seconds == 0
    error_message = "A FIFO queue takes batches of 10, without a window."
  }

  assert {
    condition     = output.queues.orders.name == "shop-orders.fifo"
    error_message = "The name does not end in .fifo."
  }
}

run "queues_may_be_a_list" {
  command = plan

  variables {
    queues = ["mail", "reports"]
  }

  assert {
    condition     = join(",", keys(output.queues)) == "mail,reports"
    error_message = "The list's names are not the queues."
  }
}

run "pollers_take_the_place_of_the_maximum_concurrency" {
  command = plan

  variables {
    provisioned_pollers = { minimum = 2, maximum = 20 }
  }

  assert {
    condition     = output.event_source_mapping.celery.scaling_config == null
    error_message = "Both limits are set."
  }
}

run "both_limits_are_refused" {
  command = plan

  variables {
    maximum_concurrency = 5
    provisioned_pollers = { minimum = 2, maximum = 20 }
  }

  expect_failures = [var.maximum_concurrency]
}

run "a_misspelt_key_of_a_queue_is_refused" {
  command = plan

  variables {
    queues = { mail = { time_out = 300 } }
  }

  expect_failures = [var.queues]
}

run "too_few_receives_are_refused" {
  command = plan

  variables {
    queues = { mail = { max_receive_count = 4 } }
  }

  expect_failures = [output.queues]
}
