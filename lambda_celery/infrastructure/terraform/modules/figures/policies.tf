# The statements of each role, with the kind of what they are for. The module around this one
# knows the ARNs.

locals {
  schedule_statements = var.schedules ? [
    {
      sid       = "ScheduleFarOffTasks"
      actions   = ["scheduler:CreateSchedule", "scheduler:GetSchedule", "scheduler:DeleteSchedule"]
      on        = ["schedules"]
      condition = {}
    },
    # It is authorised for the schedules of every group, whichever the call names.
    {
      sid       = "FindSchedulesToCancel"
      actions   = ["scheduler:ListSchedules"]
      on        = ["everything"]
      condition = {}
    },
    {
      sid       = "LetSchedulerSend"
      actions   = ["iam:PassRole"]
      on        = ["scheduler_role"]
      condition = { "iam:PassedToService" = "scheduler.amazonaws.com" }
    },
  ] : []

  key_statements = var.kms_key_arn == null ? [] : [
    {
      sid       = "UseTheKey"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      on        = ["kms_key"]
      condition = {}
    },
  ]

  statements = {
    function = concat(
      [
        {
          sid       = "TakeMessagesAndPublishRetries"
          actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes", "sqs:SendMessage"]
          on        = ["own_queues"]
          condition = {}
        },
        {
          sid       = "ParkSpentMessages"
          actions   = ["sqs:SendMessage", "sqs:GetQueueAttributes"]
          on        = ["own_dead_letter_queues"]
          condition = {}
        },
        # Bulk actions on failed tasks: they need none of an operator's rights.
        {
          sid       = "WorkOffFailedTasks"
          actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"]
          on        = ["own_dead_letter_queues"]
          condition = {}
        },
        {
          sid       = "FindFailedTasks"
          actions   = ["dynamodb:Query"]
          on        = ["failures_index"]
          condition = {}
        },
      ],
      # A task may call one of another queue.
      var.functions == "each" && length(local.queues) > 1 ? [
        {
          sid       = "SendToOtherQueues"
          actions   = ["sqs:SendMessage", "sqs:GetQueueAttributes"]
          on        = ["other_queues"]
          condition = {}
        },
      ] : [],
      [
        {
          sid       = "RunOnce"
          actions   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:BatchWriteItem", "dynamodb:PartiQLInsert", "dynamodb:PartiQLUpdate"]
          on        = ["idempotency_table"]
          condition = {}
        },
        {
          sid       = "BigBodies"
          actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
          on        = ["payloads"]
          condition = {}
        },
        # Who may not list gets the same 403 for an object that is gone as for one that is
        # forbidden.
        {
          sid       = "TellMissingFromForbidden"
          actions   = ["s3:ListBucket"]
          on        = ["payload_bucket"]
          condition = {}
        },
      ],
      local.schedule_statements,
      # The account is no resource that could be named.
      var.ses_rate ? [
        {
          sid       = "LearnTheRateOfSes"
          actions   = ["ses:GetAccount"]
          on        = ["everything"]
          condition = {}
        },
      ] : [],
      [
        {
          sid       = "Log"
          actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          on        = ["log_group"]
          condition = {}
        },
      ],
      local.key_statements,
      # Lambda itself makes the network interfaces, with the function's role. They cannot be
      # named beforehand.
      var.vpc == null ? [] : [
        {
          sid       = "JoinTheVpc"
          actions   = ["ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DeleteNetworkInterface", "ec2:DescribeSubnets", "ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"]
          on        = ["everything"]
          condition = {}
        },
      ],
    )

    producer = concat(
      [
        {
          sid       = "SendTasks"
          actions   = ["sqs:SendMessage", "sqs:GetQueueAttributes"]
          on        = ["queues"]
          condition = {}
        },
        {
          sid       = "SendBigBodies"
          actions   = ["s3:PutObject"]
          on        = ["payloads"]
          condition = {}
        },
        {
          sid       = "Revoke"
          actions   = ["dynamodb:BatchWriteItem"]
          on        = ["idempotency_table"]
          condition = {}
        },
        # With the schedule of a revoked task goes its body.
        {
          sid       = "DeleteRevokedBodies"
          actions   = ["s3:DeleteObject"]
          on        = ["payloads"]
          condition = {}
        },
      ],
      local.schedule_statements,
      local.key_statements,
    )

    caller = concat(
      [
        {
          sid       = "CallDirectly"
          actions   = ["lambda:InvokeFunction"]
          on        = ["functions"]
          condition = {}
        },
        # What is big goes there and comes from there, and is deleted when it has been read.
        {
          sid       = "BigCallsAndAnswers"
          actions   = ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"]
          on        = ["payloads"]
          condition = {}
        },
      ],
      local.key_statements,
    )

    scheduler = concat(
      [
        {
          sid       = "SendToTheQueue"
          actions   = ["sqs:SendMessage"]
          on        = ["queues"]
          condition = {}
        },
      ],
      # It takes no FIFO queue for what it cannot send.
      anytrue([for queue in local.queues : !queue.fifo]) ? [
        {
          sid       = "ParkWhatCannotBeSent"
          actions   = ["sqs:SendMessage"]
          on        = ["standard_dead_letter_queues"]
          condition = {}
        },
      ] : [],
      local.key_statements,
    )

    results = concat(
      [
        {
          sid       = "KeepResults"
          actions   = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"]
          on        = ["results_table"]
          condition = {}
        },
      ],
      # DynamoDB decrypts the table's own key for whoever reads or writes, and nothing else.
      [for statement in local.key_statements : merge(statement, { actions = ["kms:Decrypt"] })],
    )
  }
}
